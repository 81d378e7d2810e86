//! The runtime's command line alone, as the tests run it; called by the name `runc` it is the one that containerd calls.

fn main() -> std::process::ExitCode {
    let code = cais_runtime::face::main(std::env::args_os().collect());
    std::process::ExitCode::from(u8::try_from(code).unwrap_or(1))
}
