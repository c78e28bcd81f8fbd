//! Certificates are made by OpenSSL, so that it and we agree on what they mean.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use super::*;

const MANIFEST: &[u8] = b"SHA256(a.ovf)= 9834876dcfb05cb167a5c24953eba58c4ac89b1adf57f28f2f9d09af107ee8f0\n";
const DAY: u64 = 24 * 3600;

/// Keys and certificates of one test run: making keys takes a while.
struct Pki {
    dir: tempfile::TempDir,
    now: u64,
}

static PKI: LazyLock<Pki> = LazyLock::new(Pki::new);

impl Pki {
    fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        // A little later than all of them are made.
        let pki = Self { dir: tempfile::tempdir().unwrap(), now: now + 3600 };
        for (key, bits) in
            [("root", 2048), ("intermediate", 2048), ("leaf", 2048), ("other", 2048), ("weak", 1024)]
        {
            let size = format!("rsa_keygen_bits:{bits}");
            pki.openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", &size, "-out", &format!("{key}.key")]);
        }
        pki.openssl(&[
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-out",
            "ec.key",
        ]);
        let ca = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign";
        let signer =
            "basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning";
        // Name, key, issuer ("" is itself), extensions, further options.
        for (name, key, issuer, extensions, options) in [
            ("root", "root", "", ca, ""),
            ("intermediate", "intermediate", "root", ca, ""),
            ("leaf", "leaf", "intermediate", signer, ""),
            ("direct", "leaf", "root", signer, ""),
            ("plain", "leaf", "root", "basicConstraints=CA:FALSE", ""),
            ("weak", "weak", "root", signer, ""),
            ("ec", "ec", "root", signer, ""),
            ("encipher", "leaf", "root", "keyUsage=keyEncipherment", ""),
            ("tls", "leaf", "root", "extendedKeyUsage=serverAuth", ""),
            ("self", "leaf", "", "basicConstraints=CA:FALSE", ""),
            ("ca", "leaf", "root", "basicConstraints=CA:TRUE", ""),
            ("sha1", "leaf", "root", signer, "-sha1"),
            // A leaf that plays the authority.
            ("no-ca", "intermediate", "root", "basicConstraints=CA:FALSE", ""),
            ("of-no-ca", "leaf", "no-ca", signer, ""),
            ("no-sign", "intermediate", "root", "basicConstraints=CA:TRUE\nkeyUsage=cRLSign", ""),
            ("of-no-sign", "leaf", "no-sign", signer, ""),
            // Of the root's name, with another key.
            ("impostor", "other", "", ca, "-subj /CN=root"),
            ("no-ca-root", "other", "", "basicConstraints=CA:FALSE", ""),
            ("of-no-ca-root", "leaf", "no-ca-root", signer, ""),
            ("short-root", "root", "", ca, "-days 10 -subj /CN=root"),
            ("short-intermediate", "intermediate", "root", ca, "-days 10 -subj /CN=intermediate"),
        ] {
            pki.certificate(name, key, issuer, extensions, options);
        }
        pki
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, names: &[&str]) -> Vec<u8> {
        names.iter().flat_map(|name| std::fs::read(self.path(name)).unwrap()).collect()
    }

    fn roots(&self, names: &[&str]) -> Roots {
        Roots::from_pem(&self.read(names)).unwrap()
    }

    fn signer(&self, key: &str, chain: &[&str]) -> Result<Signer, SignerError> {
        Signer::from_pem(&self.read(&[key]), &self.read(chain))
    }

    fn openssl(&self, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new("openssl").current_dir(&self.dir).args(arguments).output().unwrap();
        assert!(output.status.success(), "openssl {arguments:?}: {}", output.stderr.escape_ascii());
        output.stdout
    }

    fn certificate(&self, name: &str, key: &str, issuer: &str, extensions: &str, options: &str) {
        let (csr, config, crt) = (format!("{name}.csr"), format!("{name}.ext"), format!("{name}.crt"));
        std::fs::write(self.path(&config), extensions).unwrap();
        let key = format!("{key}.key");
        let mut options: Vec<_> = options.split_whitespace().collect();
        let subject = match options.iter().position(|option| *option == "-subj") {
            Some(at) => options.drain(at..at + 2).nth(1).unwrap().to_string(),
            None => format!("/CN={name}"),
        };
        self.openssl(&["req", "-new", "-key", &key, "-subj", &subject, "-out", &csr]);
        let mut arguments = vec!["x509", "-req", "-in", &csr, "-extfile", &config, "-out", &crt];
        if !options.contains(&"-days") {
            arguments.extend(["-days", "100"]);
        }
        arguments.extend(options);
        let (issuer_crt, issuer_key) = (format!("{issuer}.crt"), self.issuer_key(issuer));
        if issuer.is_empty() {
            arguments.extend(["-signkey", &key]);
        } else {
            arguments.extend(["-CA", &issuer_crt, "-CAkey", &issuer_key, "-CAcreateserial"]);
        }
        self.openssl(&arguments);
    }

    fn issuer_key(&self, issuer: &str) -> String {
        match issuer {
            "no-ca" | "no-sign" => "intermediate.key".into(),
            "no-ca-root" => "other.key".into(),
            issuer => format!("{issuer}.key"),
        }
    }

    /// Signs with this chain and looks whether these roots trust it.
    fn trust(&self, chain: &[&str], roots: &[&str], now: u64) -> Trust {
        let cert = self.signer("leaf.key", chain).unwrap().sign("a.mf", MANIFEST).unwrap();
        verify(MANIFEST, &cert, &self.roots(roots), now).unwrap().trust
    }
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn openssl_verifies_what_we_sign() {
    let signer = PKI.signer("leaf.key", &["leaf.crt", "intermediate.crt"]).unwrap();
    let cert = signer.sign("a.mf", MANIFEST).unwrap();
    assert_eq!(cert, signer.sign("a.mf", MANIFEST).unwrap(), "the same manifest, the same signature");
    assert_eq!(cert.len(), signer.certificate_len("a.mf"));
    let parsed = parse(&cert).unwrap();
    assert_eq!(
        (parsed.manifest.as_str(), parsed.algorithm, parsed.strict),
        ("a.mf", Algorithm::Sha256, true)
    );
    assert_eq!((parsed.signature.len(), parsed.chain.len()), (256, 2));

    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    write(&dir.path().join("mf"), MANIFEST);
    write(&dir.path().join("sig"), &parsed.signature);
    // OpenSSL finds the signer's certificate in our file.
    write(&dir.path().join("cert"), &cert);
    let public = PKI.openssl(&["x509", "-in", &path("cert"), "-noout", "-pubkey"]);
    write(&dir.path().join("pub"), &public);
    let verified =
        PKI.openssl(&["dgst", "-sha256", "-verify", &path("pub"), "-signature", &path("sig"), &path("mf")]);
    assert_eq!(verified, b"Verified OK\n");
    // And no line differs from what OpenSSL writes.
    let chain = PKI.read(&["leaf.crt", "intermediate.crt"]);
    assert!(cert.ends_with(&chain), "{}", cert.escape_ascii());
}

#[test]
fn we_verify_what_openssl_signs() {
    let dir = tempfile::tempdir().unwrap();
    let mf = dir.path().join("mf");
    write(&mf, MANIFEST);
    for (hash, name) in
        [("-sha1", Algorithm::Sha1), ("-sha256", Algorithm::Sha256), ("-sha512", Algorithm::Sha512)]
    {
        let signed = PKI.openssl(&["dgst", hash, "-sign", "leaf.key", "-hex", mf.to_str().unwrap()]);
        let signed = String::from_utf8(signed).unwrap();
        let digits = signed.trim().rsplit(' ').next().unwrap();
        let line = format!("{name}(a.mf)= {digits}\n");
        let cert = [line.as_bytes(), &PKI.read(&["leaf.crt", "intermediate.crt"])].concat();
        if name == Algorithm::Sha256 {
            let signer = PKI.signer("leaf.key", &["leaf.crt", "intermediate.crt"]).unwrap();
            assert_eq!(signer.sign("a.mf", MANIFEST).unwrap(), cert, "ours is the same to the byte");
        }
        let verified = verify(MANIFEST, &cert, &PKI.roots(&["root.crt"]), PKI.now).unwrap();
        assert_eq!(verified.algorithm, name);
        assert_eq!(verified.trust, Trust::Trusted { root: "CN=root".into() });
        assert_eq!((&*verified.subject, &*verified.issuer), ("CN=leaf", "CN=intermediate"));
        assert_eq!((&*verified.manifest, verified.key_bits), ("a.mf", 2048));
        let now = PKI.now as i64;
        assert!(verified.not_before <= now && verified.not_after > now + 99 * DAY as i64);
        let changed = [MANIFEST, b"\n"].concat();
        let error = verify(&changed, &cert, &PKI.roots(&["root.crt"]), PKI.now).unwrap_err();
        assert_eq!(error, CertificateError::Signature { subject: "CN=leaf".into() });
    }
    // What OpenSSL 3 prints is read as it is, but for the file's name.
    let signed = PKI.openssl(&["dgst", "-sha256", "-sign", "leaf.key", "-hex", mf.to_str().unwrap()]);
    let signed = String::from_utf8(signed).unwrap().replace("RSA-", "");
    let cert = [signed.as_bytes(), &PKI.read(&["leaf.crt"])].concat();
    assert!(!parse(&cert).unwrap().strict);
    verify(MANIFEST, &cert, &Roots::default(), PKI.now).unwrap();
}

#[test]
fn who_is_trusted() {
    let trusted = |root: &str| Trust::Trusted { root: format!("CN={root}") };
    for (chain, roots, root) in [
        (&["leaf.crt", "intermediate.crt"][..], &["root.crt"][..], "root"),
        (&["leaf.crt", "intermediate.crt", "root.crt"], &["other-first.crt", "root.crt"], "root"),
        (&["leaf.crt"], &["intermediate.crt"], "intermediate"),
        (&["direct.crt"], &["root.crt"], "root"),
        (&["plain.crt"], &["root.crt"], "root"),
        // Trusted itself.
        (&["self.crt"], &["self.crt"], "self"),
        (&["direct.crt"], &["direct.crt"], "direct"),
        // An impostor among the roots does not hide the one meant, nor does one that ends earlier.
        (&["direct.crt"], &["impostor.crt", "root.crt"], "root"),
        (&["direct.crt"], &["short-root.crt", "root.crt"], "root"),
    ] {
        let roots: Vec<_> =
            roots.iter().map(|r| if *r == "other-first.crt" { "self.crt" } else { r }).collect();
        assert_eq!(PKI.trust(chain, &roots, PKI.now + 20 * DAY), trusted(root), "{chain:?} {roots:?}");
    }
}

#[test]
fn why_nobody_is_trusted() {
    let cn = |name: &str| format!("CN={name}");
    let unknown =
        |subject: &str, issuer: &str| Distrust::UnknownIssuer { subject: cn(subject), issuer: cn(issuer) };
    let now = PKI.now;
    let later = now + 20 * DAY;
    for (chain, roots, now, reason) in [
        (&["leaf.crt", "intermediate.crt"][..], &[][..], now, unknown("leaf", "intermediate")),
        (&["leaf.crt", "intermediate.crt"], &["self.crt"], now, unknown("leaf", "intermediate")),
        (&["leaf.crt"], &["root.crt"], now, unknown("leaf", "intermediate")),
        (&["direct.crt"], &["impostor.crt"], now, Distrust::Signature),
        (&["self.crt"], &["root.crt"], now, Distrust::SelfSigned(cn("self"))),
        (&["leaf.crt", "intermediate.crt"], &["root.crt"], now + 101 * DAY, Distrust::Expired(cn("leaf"))),
        (&["leaf.crt", "intermediate.crt"], &["root.crt"], u64::MAX, Distrust::Expired(cn("leaf"))),
        (&["leaf.crt", "intermediate.crt"], &["root.crt"], now - DAY, Distrust::NotYetValid(cn("leaf"))),
        (&["leaf.crt", "intermediate.crt"], &["root.crt"], 0, Distrust::NotYetValid(cn("leaf"))),
        (&["self.crt"], &["self.crt"], now + 101 * DAY, Distrust::Expired(cn("self"))),
        (&["direct.crt"], &["short-root.crt"], later, Distrust::Expired(cn("root"))),
        (
            &["leaf.crt", "short-intermediate.crt"],
            &["root.crt"],
            later,
            Distrust::Expired(cn("intermediate")),
        ),
        (&["of-no-ca.crt", "no-ca.crt"], &["root.crt"], now, Distrust::NotAnAuthority(cn("no-ca"))),
        (&["of-no-ca-root.crt"], &["no-ca-root.crt"], now, Distrust::NotAnAuthority(cn("no-ca-root"))),
        (&["of-no-sign.crt", "no-sign.crt"], &["root.crt"], now, Distrust::Usage(cn("no-sign"))),
        (&["encipher.crt"], &["root.crt"], now, Distrust::Usage(cn("encipher"))),
        (&["tls.crt"], &["root.crt"], now, Distrust::Usage(cn("tls"))),
        (&["ca.crt"], &["root.crt"], now, Distrust::Authority(cn("ca"))),
    ] {
        assert_eq!(PKI.trust(chain, roots, now), Trust::Untrusted(reason), "{chain:?} {roots:?}");
    }
    let Trust::Untrusted(Distrust::Rule(rule)) = PKI.trust(&["sha1.crt"], &["root.crt"], now) else {
        panic!("SHA1 is no proof")
    };
    assert!(rule.contains("UnsupportedSignatureAlgorithm"), "{rule}");
}

#[test]
fn keys_in_either_form() {
    let pkcs1 = PKI.openssl(&["rsa", "-in", "leaf.key", "-traditional"]);
    assert!(pkcs1.starts_with(b"-----BEGIN RSA PRIVATE KEY-----"));
    let chain = PKI.read(&["leaf.crt"]);
    let signature = |key: &[u8]| Signer::from_pem(key, &chain).unwrap().sign("a.mf", MANIFEST).unwrap();
    assert_eq!(signature(&pkcs1), signature(&PKI.read(&["leaf.key"])));
    let signer = PKI.signer("leaf.key", &["leaf.crt"]).unwrap();
    let shown = format!("{signer:?}");
    assert!(shown.starts_with("Signer { public: ") && !shown.contains("private"), "{shown}");
}

#[test]
fn what_is_wrong_with_a_signer_is_named() {
    let encrypted = PKI.openssl(&["pkey", "-in", "leaf.key", "-aes256", "-passout", "pass:secret"]);
    let traditional =
        PKI.openssl(&["rsa", "-in", "leaf.key", "-traditional", "-aes128", "-passout", "pass:secret"]);
    let public = PKI.openssl(&["pkey", "-in", "leaf.key", "-pubout"]);
    let (key, chain) = (PKI.read(&["leaf.key"]), PKI.read(&["leaf.crt"]));
    let mut cut = key.clone();
    cut.truncate(400);
    for (key, chain, message) in [
        (&encrypted, &chain, "encrypted: decrypt it with `openssl pkey`"),
        (&traditional, &chain, "encrypted: decrypt it with `openssl pkey`"),
        (&public, &chain, "starts with a `PUBLIC KEY`"),
        (&chain, &chain, "starts with a `CERTIFICATE`"),
        (&cut, &chain, "is not a PEM text"),
        (&Vec::new(), &chain, "is not a PEM text"),
        (&PKI.read(&["ec.key"]), &chain, "must be RSA of 2048 to 4096 bits"),
        (&PKI.read(&["weak.key"]), &PKI.read(&["weak.crt"]), "must be RSA of 2048 to 4096 bits"),
        (&key, &Vec::new(), "There are 0 X.509 certificates"),
        (&key, &chain.repeat(17), "There are 17 X.509 certificates"),
        (
            &key,
            &PKI.read(&["intermediate.crt"]),
            "`CN=intermediate`, the first of the chain, is not one for the private",
        ),
        (&key, &PKI.read(&["leaf.crt", "root.crt"]), "Certificate 1 of the chain was not issued by"),
        (
            &key,
            &b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".to_vec(),
            "certificate 1 is malformed",
        ),
        (&key, &b"-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n".to_vec(), "PEM text"),
    ] {
        let error = Signer::from_pem(key, chain).unwrap_err().to_string();
        assert!(error.contains(message), "{message}: {error}");
        assert!(!error.contains("secret"));
    }
}

#[test]
fn what_is_wrong_with_a_certificate_is_named() {
    let good = PKI.signer("leaf.key", &["leaf.crt"]).unwrap().sign("a.mf", MANIFEST).unwrap();
    let pem = PKI.read(&["leaf.crt"]);
    let with = |line: &str| [line.as_bytes(), &pem].concat();
    let line = |text: &[u8]| text.split_inclusive(|byte| *byte == b'\n').next().unwrap().to_vec();
    let other = |name: &str| [line(&good), PKI.read(&[name])].concat();
    for (cert, message) in [
        (Vec::new(), "Line 1 of the certificate is not its one"),
        (pem.clone(), "Line 1 of the certificate is not its one"),
        (with("\nnonsense\n"), "Line 2 of the certificate is not its one"),
        (with("SHA256(a.mf)= xx\n"), "Line 1 of the certificate is not its one"),
        (with("SHA256(a.mf)= \n"), "Line 1 of the certificate is not its one"),
        (with("MD5(a.mf)= 00\n"), "Line 1 of the certificate is not its one"),
        ([line(&good), good.clone()].concat(), "Line 2 of the certificate is not its one"),
        (line(&good), "There are 0 X.509 certificates"),
        ([line(&good), pem.repeat(17)].concat(), "There are 17 X.509 certificates"),
        (vec![b'\n'; (1 << 18) + 1], "longer than 256 KiB"),
        (with("SHA256(a.mf)= 00\n"), "The signature is not one of this manifest by `CN=leaf`"),
        (
            with(&format!("SHA512{}", &String::from_utf8(line(&good)).unwrap()[6..])),
            "not one of this manifest",
        ),
        (other("intermediate.crt"), "not one of this manifest by `CN=intermediate`"),
        (other("ec.crt"), "The key of `CN=ec` is not an RSA key"),
        (other("weak.crt"), "The key of `CN=weak` has 1024 bits"),
    ] {
        let error = verify(MANIFEST, &cert, &Roots::default(), PKI.now).unwrap_err().to_string();
        assert!(error.contains(message), "{message}: {error}");
    }
    // White space and line ends of other systems do no harm.
    let windows = String::from_utf8(good.clone()).unwrap().replace('\n', "\r\n");
    verify(MANIFEST, windows.as_bytes(), &Roots::default(), PKI.now).unwrap();
    assert!(!parse(windows.as_bytes()).unwrap().strict && parse(&good).unwrap().strict);
    assert!(Roots::from_pem(b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n").is_err());
}

#[test]
fn an_archive_has_its_certificate_after_the_manifest() {
    let signer = PKI.signer("leaf.key", &["leaf.crt", "intermediate.crt"]).unwrap();
    let options = crate::Options { mtime: 0, signer: Some(&signer) };
    let mut file = tempfile::tempfile().unwrap();
    let disk = crate::Content::new("a-disk1.vmdk", |out| Ok::<_, crate::Error>(out.write_all(b"disk")?));
    let xml = |_: &[crate::MemberFacts]| Ok(b"<Envelope/>".to_vec());
    crate::write_seekable(&mut file, "a", vec![disk], xml, 1000, &options).unwrap();
    let archive = crate::Archive::from_file(file).unwrap();
    let names: Vec<_> = archive.members().iter().map(|entry| &*entry.name).collect();
    assert_eq!(names, ["a.ovf", "a.mf", "a.cert", "a-disk1.vmdk"]);
    let content = |name| archive.read(archive.get(name).unwrap(), MAX_SIZE).unwrap();
    let (mf, cert) = (content("a.mf"), content("a.cert"));
    let verified = verify(&mf, &cert, &PKI.roots(&["root.crt"]), PKI.now).unwrap();
    assert_eq!(verified.trust, Trust::Trusted { root: "CN=root".into() });
    for line in crate::manifest::parse(&mf).unwrap().lines {
        let mut reader = archive.reader(archive.get(&line.name).unwrap());
        assert_eq!(line.algorithm.digest(&mut reader).unwrap(), line.digest);
    }
}
