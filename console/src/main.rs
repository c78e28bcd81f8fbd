//! `gatewright-console`: see the library.

fn main() -> std::process::ExitCode {
    gatewright_console::cli::main()
}
