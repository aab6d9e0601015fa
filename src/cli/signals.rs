//! SIGINT, SIGTERM and SIGHUP: the first asks the operation to stop at its next clean point, the second ends the
//! program at once. Either way nothing finished is lost.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::base::code::Exit;

/// Listens from now on, for the life of the program. The flag becomes true with the first signal.
///
/// # Errors
/// If the system refuses the handlers.
pub fn install() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // handlers run in this order: the first signal finds the flag still down
        let status = i32::from(Exit::Interrupted.number());
        flag::register_conditional_shutdown(signal, status, Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

/// What has come so far, for a command that decides itself what each signal means.
#[derive(Clone, Default)]
pub struct Heard {
    /// SIGINT; whoever has heard it may lower the flag.
    pub interrupt: Arc<AtomicBool>,
    /// SIGTERM.
    pub end: Arc<AtomicBool>,
    /// SIGHUP: the terminal is gone.
    pub hangup: Arc<AtomicBool>,
}

/// Listens from now on; no signal ends the program any more.
///
/// # Errors
/// If the system refuses the handlers.
pub fn hear() -> io::Result<Heard> {
    let heard = Heard::default();
    for (signal, to) in [(SIGINT, &heard.interrupt), (SIGTERM, &heard.end), (SIGHUP, &heard.hangup)] {
        flag::register(signal, Arc::clone(to))?;
    }
    Ok(heard)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::sync::atomic::Ordering;

    use signal_hook::low_level::raise;

    use super::*;

    const CHILD: &str = "LIFEBOAT_TEST_SIGNALS";

    // In a process of its own, as signals concern all of one.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "tells the child from the parent")]
    fn the_first_signal_asks_and_the_second_ends() {
        if std::env::var_os(CHILD).is_some() {
            let stop = install().unwrap();
            assert!(!stop.load(Ordering::Relaxed));
            raise(SIGINT).unwrap();
            assert!(stop.load(Ordering::Relaxed));
            raise(SIGTERM).unwrap();
            unreachable!("the second signal ends the program");
        }
        let name = "cli::signals::tests::the_first_signal_asks_and_the_second_ends";
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(CHILD, "1")
            .stdout(Stdio::null())
            .status();
        assert_eq!(child.unwrap().code(), Some(130));
    }
}
