//! `stream-optimized DISK FILE.vmdk`: makes the VMDK of a raw disk, and says how long that took and how much memory.

use std::error::Error;
use std::fs::File;
use std::io::Write as _;
use std::time::Instant;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(disk), Some(file)) = (arguments.next(), arguments.next()) else {
        return Err("stream-optimized DISK FILE.vmdk".into());
    };
    let options = vmdk::Options { extent_name: "disk.vmdk".into(), content_id: *b"0123456789abcdef" };
    let start = Instant::now();
    let disk = vmdk::Raw::open(disk)?;
    let written = vmdk::write_stream_optimized(&disk, &options, &mut File::create(file)?, &mut |_| {})?;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    let seconds = start.elapsed().as_secs_f64();
    writeln!(std::io::stdout(), "{seconds:.2} s, {} bytes, {peak}", written.size)?;
    Ok(())
}
