//! Measures the formats side by side with their peers, in one run, on the installer's own disk: raw to streamOptimized VMDK
//! and raw to signed OVA. Prints one line of JSON.
//!
//! ```text
//! formats GATEWRIGHT DISK.raw FOLDER
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use ova::{Content, Signer};
use serde::Serialize;
use vmdk::{Raw, Source as _};

/// Each is run this often, in turns; the middle one counts.
const ROUNDS: usize = 3;

#[derive(Debug, Serialize)]
struct Measured {
    /// Of non-zero data on the disk.
    data_bytes: u64,
    qemu_seconds: f64,
    qemu_bytes: u64,
    vmdk_seconds: f64,
    vmdk_bytes: u64,
    /// Nothing but reading and compressing the same grains, on all cores.
    limit_seconds: f64,
    peer_ova_seconds: f64,
    ova_seconds: f64,
    /// Of converting a sparse disk of 100 GiB, at most.
    peak_rss_kib: u64,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let mut argument = |what| arguments.next().with_context(|| format!("{what} is missing"));
    let (gatewright, disk, dir) = (argument("GATEWRIGHT")?, argument("DISK")?, argument("FOLDER")?);
    let peak_rss_kib = peak_memory(&gatewright, &dir)?;
    let (key, chain) = certificate(&dir)?;
    let signer = Signer::from_pem(&key, &chain)?;

    let (qemu, ours) = (dir.join("qemu.vmdk"), dir.join("ours.vmdk"));
    let qemu_img = |out: &Path| {
        run(Command::new("qemu-img")
            .args(["convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized"])
            .args([&disk, out]))
    };
    let mut times: [Vec<f64>; 5] = Default::default();
    for _ in 0..ROUNDS {
        times[0].push(seconds(|| qemu_img(&qemu))?);
        times[1].push(seconds(|| {
            run(Command::new(&gatewright).args(["disk", "convert", "-q", "--force"]).args([&disk, &ours]))
        })?);
        times[2].push(seconds(|| compress_only(&disk))?);
        times[3].push(seconds(|| {
            qemu_img(&qemu)?;
            run(Command::new("sh").current_dir(&dir).args([
                "-c",
                "echo x > a.ovf && sha256sum a.ovf qemu.vmdk > a.mf && openssl dgst -sha256 -sign key.pem -out a.cert a.mf && tar -cf peer.ova a.ovf a.mf a.cert qemu.vmdk",
            ]))
        })?);
        times[4].push(seconds(|| sign_ova(&disk, &dir.join("ours.ova"), &signer))?);
    }
    let [qemu_seconds, vmdk_seconds, limit_seconds, peer_ova_seconds, ova_seconds] = times.map(|mut all| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    });
    let measured = Measured {
        data_bytes: grains(&disk)?.len() as u64 * GRAIN,
        qemu_seconds,
        qemu_bytes: fs::metadata(&qemu)?.len(),
        vmdk_seconds,
        vmdk_bytes: fs::metadata(&ours)?.len(),
        limit_seconds,
        peer_ova_seconds,
        ova_seconds,
        peak_rss_kib,
    };
    writeln!(io::stdout(), "{}", serde_json::to_string(&measured)?)?;
    Ok(())
}

fn seconds(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed().as_secs_f64())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

const GRAIN: u64 = 64 << 10;

/// The numbers of the grains that are not all zero.
fn grains(disk: &Path) -> Result<Vec<u64>> {
    let disk = Raw::open(disk)?;
    let (mut all, mut next) = (Vec::new(), 0);
    let mut buffer = vec![0; GRAIN as usize];
    while let Some(data) = disk.next_data(next)? {
        let end = data.end.div_ceil(GRAIN);
        for grain in (data.start / GRAIN).max(next / GRAIN)..end {
            let part = &mut buffer[..GRAIN.min(disk.capacity() - grain * GRAIN) as usize];
            disk.read_exact_at(part, grain * GRAIN)?;
            if part.iter().any(|byte| *byte != 0) {
                all.push(grain);
            }
        }
        next = end * GRAIN;
        if next >= disk.capacity() {
            break;
        }
    }
    Ok(all)
}

/// What no writer with this compressor can be quicker than here: every core reads and compresses, nobody writes.
fn compress_only(disk: &Path) -> Result<()> {
    let all = grains(disk)?;
    let disk = Raw::open(disk)?;
    let level = libdeflater::CompressionLvl::new(vmdk::LEVEL).map_err(|e| anyhow!("{e:?}"))?;
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        let mut compressor = libdeflater::Compressor::new(level);
        let (mut input, mut output) = (vec![0; GRAIN as usize], vec![0; 2 * GRAIN as usize]);
        while let Some(grain) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
            let part = &mut input[..GRAIN.min(disk.capacity() - grain * GRAIN) as usize];
            disk.read_exact_at(part, grain * GRAIN)?;
            compressor.zlib_compress(part, &mut output)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> =
            (0..thread::available_parallelism()?.get()).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
    })
}

/// Of a disk of 100 GiB with a MiB of data in every 100, in KiB.
fn peak_memory(gatewright: &Path, dir: &Path) -> Result<u64> {
    let (large, out) = (dir.join("large.raw"), dir.join("large.vmdk"));
    let file = File::create(&large)?;
    file.set_len(100 << 30)?;
    let noise: Vec<u8> = (0_u32..1 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for place in (0..100_u64 << 30).step_by(100 << 20) {
        std::os::unix::fs::FileExt::write_all_at(&file, &noise, place)?;
    }
    let mut child = Command::new(gatewright).args(["disk", "convert", "-q"]).args([&large, &out]).spawn()?;
    let mut peak = 0;
    let status = loop {
        // The high-water mark, which only grows: the last look is what counts.
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let mark = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
        peak = peak.max(mark.unwrap_or(0));
        if let Some(status) = child.try_wait()? {
            break status;
        }
        thread::sleep(Duration::from_millis(5));
    };
    ensure!(status.success() && peak > 0, "converting a large disk ended with {status}");
    fs::remove_file(&large)?;
    fs::remove_file(&out)?;
    Ok(peak)
}

/// A key and a certificate of its own, by openssl.
fn certificate(dir: &Path) -> Result<(Vec<u8>, Vec<u8>)> {
    let made = Command::new("openssl")
        .current_dir(dir)
        .args(["req", "-x509", "-newkey", "rsa:3072", "-nodes", "-keyout", "key.pem", "-out", "cert.pem"])
        .args(["-subj", "/CN=bench"])
        .output()?;
    ensure!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
    Ok((fs::read(dir.join("key.pem"))?, fs::read(dir.join("cert.pem"))?))
}

/// Raw disk to signed OVA, as the builder does it.
fn sign_ova(disk: &Path, path: &Path, signer: &Signer) -> Result<()> {
    let _ = fs::remove_file(path);
    let mut file = File::create_new(path)?;
    let disk = Raw::open(disk)?;
    let options = vmdk::Options { extent_name: "disk.vmdk".into(), content_id: [1; 16] };
    let content = Content::new("disk.vmdk", |out| {
        vmdk::write_stream_optimized(&disk, &options, out, &mut |_| {})?;
        Ok::<(), anyhow::Error>(())
    });
    let options = ova::Options { mtime: 0, signer: Some(signer) };
    ova::write_seekable(&mut file, "a", vec![content], |_| Ok(b"<Envelope/>".to_vec()), 4096, &options)?;
    Ok(())
}
