//! Who ended the TLS that a machine saw: we, a proxy it was told of, or somebody in between.

use protocol::bytes::Bytes;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::entries::cut;

/// Judges the certificates that a machine was shown, leaf first, given which are ours. `Err` has the issuer of one that
/// is not.
pub(super) fn judge(chain: &[Bytes], ours: impl Fn(&[u8]) -> bool) -> Result<(), String> {
    let Some(leaf) = chain.first() else {
        return Err("nobody: it says that it was shown no certificate".into());
    };
    if ours(&leaf.0) {
        return Ok(());
    }
    // It is told to people on both sides, so what an interceptor wrote into it is cut.
    Err(match X509Certificate::from_der(&leaf.0) {
        Ok((_, certificate)) => cut(certificate.issuer().to_string(), 200),
        Err(_) => "somebody whose certificate makes no sense".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(name: &str) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["console.test".into()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn an_interceptor_is_named() {
        let (ours, theirs) = (certificate("Ours"), certificate("Corporate Inspection CA"));
        let is_ours = |leaf: &[u8]| leaf == ours;
        assert_eq!(judge(&[Bytes(ours.clone())], is_ours), Ok(()));
        assert_eq!(
            judge(&[Bytes(theirs), Bytes(ours.clone())], is_ours),
            Err("CN=Corporate Inspection CA".into())
        );
        assert!(judge(&[], is_ours).is_err());
        assert!(judge(&[Bytes(b"rubbish".to_vec())], is_ours).is_err());
        let long = certificate(&"x".repeat(5000));
        assert!(judge(&[Bytes(long)], is_ours).unwrap_err().len() <= 200);
    }
}
