//! The command line alone, without a daemon behind it; the tests drive it as a process.

fn main() -> std::process::ExitCode {
    let code = cais_cli::main(std::env::args_os().collect());
    std::process::ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1))
}
