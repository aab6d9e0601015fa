//! The `lifeboat` command: everything is in the library's `cli` module.

fn main() -> std::process::ExitCode {
    lifeboat::cli::main()
}
