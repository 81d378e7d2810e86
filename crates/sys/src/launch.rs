//! Starts a program from a process with many threads and descriptors: the child borrows the memory of the caller until it
//! executes, and takes only the descriptors it needs, so that nothing is copied however large the caller is.

use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::io::{DupFlags, dup3};

/// Stack of the child until it executes, bytes.
const STACK: usize = 64 << 10;
/// Descriptors are moved out of the way of the numbers that the child fills.
const OUT_OF_THE_WAY: c_int = 10;
/// The number at which the program finds its descriptor.
const GIVEN: c_int = 3;

/// What to start.
#[derive(Debug)]
pub struct Program<'a> {
    /// An open executable file.
    pub file: BorrowedFd<'a>,
    /// The program's name first.
    pub arguments: &'a [&'a CStr],
    /// `NAME=value` each; nothing is inherited.
    pub environment: &'a [&'a CStr],
    /// Becomes descriptor 3.
    pub descriptor: BorrowedFd<'a>,
}

/// A started child of the calling process.
#[derive(Debug)]
pub struct Child {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

/// All that the child needs; the error comes back the same way.
struct Plan {
    file: c_int,
    null: c_int,
    descriptor: c_int,
    /// Beyond the three.
    beyond: c_int,
    arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    errno: c_int,
}

/// Where programs are started from, one at a time: three descriptors that lie low in the caller's table if it is made early.
/// What lies above them is never copied for a child, so that a start costs the same however many are open.
#[derive(Debug)]
pub struct Launchpad {
    places: Mutex<Places>,
}

#[derive(Debug)]
struct Places {
    null: OwnedFd,
    /// Of the program, and of what it is given; `/dev/null` between starts.
    file: OwnedFd,
    descriptor: OwnedFd,
}

impl Launchpad {
    /// Takes the three places.
    pub fn new() -> io::Result<Self> {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let away = || rustix::io::fcntl_dupfd_cloexec(&null, OUT_OF_THE_WAY);
        let places = Places {
            file: away()?,
            descriptor: away()?,
            null: away()?,
        };
        Ok(Self {
            places: Mutex::new(places),
        })
    }

    /// Starts a program as the leader of a new session, with `/dev/null` as its standard streams, all signals at their
    /// defaults except those the caller ignores, and no other descriptor than number 3. Returns once the program runs.
    pub fn launch(&self, program: &Program<'_>) -> io::Result<Child> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let started = places.launch(program);
        places.clear()?;
        started
    }
}

impl Places {
    fn launch(&mut self, program: &Program<'_>) -> io::Result<Child> {
        dup3(program.file, &mut self.file, DupFlags::CLOEXEC)?;
        dup3(program.descriptor, &mut self.descriptor, DupFlags::CLOEXEC)?;
        let pointers = |texts: &[&CStr]| -> Vec<*const c_char> {
            let end = std::iter::once(std::ptr::null());
            texts.iter().map(|text| text.as_ptr()).chain(end).collect()
        };
        let numbers = [&self.file, &self.null, &self.descriptor].map(AsRawFd::as_raw_fd);
        let [file, null, descriptor] = numbers;
        let mut plan = Plan {
            file,
            null,
            descriptor,
            beyond: numbers.into_iter().fold(GIVEN, c_int::max) + 1,
            arguments: pointers(program.arguments),
            environment: pointers(program.environment),
            errno: 0,
        };
        let before = block_signals()?;
        let started = start(&mut plan);
        restore_signals(&before);
        let child = started?;
        if plan.errno != 0 {
            crate::pidfd::wait(child.pidfd.as_fd())?;
            return Err(io::Error::from_raw_os_error(plan.errno));
        }
        Ok(child)
    }

    fn clear(&mut self) -> io::Result<()> {
        dup3(&self.null, &mut self.file, DupFlags::CLOEXEC)?;
        dup3(&self.null, &mut self.descriptor, DupFlags::CLOEXEC)?;
        Ok(())
    }
}

fn start(plan: &mut Plan) -> io::Result<Child> {
    let mut stack = vec![0_u128; STACK / size_of::<u128>()];
    let top = stack.as_mut_ptr_range().end.cast::<c_void>();
    let mut pidfd: c_int = -1;
    let flags =
        libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::CLONE_PIDFD | libc::SIGCHLD;
    let argument = std::ptr::from_mut(plan).cast::<c_void>();
    // SAFETY: the caller sleeps until the child has executed or ended, so that stack and plan outlive its use of them;
    // signals are blocked, so that no handler runs in the child.
    let pid = unsafe { libc::clone(child, top, flags, argument, &raw mut pidfd) };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid, pidfd })
}

/// Runs in the child: system calls only.
extern "C" fn child(argument: *mut c_void) -> c_int {
    // SAFETY: launch passes a pointer to a plan that nobody else uses meanwhile.
    let plan = unsafe { &mut *argument.cast::<Plan>() };
    plan.errno = execute(plan);
    // SAFETY: ends the child without running anything of the caller's.
    unsafe { libc::_exit(127) }
}

/// Comes back only with an errno.
fn execute(plan: &Plan) -> c_int {
    // From here on the child has a table of its own, of what lies below.
    if close_range(plan.beyond, libc::CLOSE_RANGE_UNSHARE) < 0 {
        return errno();
    }
    let moves = [
        (plan.null, 0),
        (plan.null, 1),
        (plan.null, 2),
        (plan.descriptor, GIVEN),
    ];
    for (from, to) in moves {
        // SAFETY: the child has a descriptor table of its own.
        if unsafe { libc::dup2(from, to) } < 0 {
            return errno();
        }
    }
    // SAFETY: takes no pointers.
    unsafe { libc::setsid() };
    if close_range(GIVEN + 1, libc::CLOSE_RANGE_CLOEXEC) < 0 {
        return errno();
    }
    restore_signals(&empty_set());
    // SAFETY: both lists end with a null pointer and their texts outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            plan.file,
            c"".as_ptr(),
            plan.arguments.as_ptr(),
            plan.environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    errno()
}

fn close_range(first: c_int, flags: c_uint) -> c_long {
    // SAFETY: closes, or marks, descriptors of a table that is the child's own or becomes so by the call.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, flags) }
}

fn errno() -> c_int {
    // The thread's errno is shared with the sleeping caller, which looks at its own only after a failed call.
    io::Error::last_os_error()
        .raw_os_error()
        .unwrap_or(libc::EIO)
}

fn empty_set() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset fills the set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: filled above.
    unsafe { set.assume_init() }
}

fn block_signals() -> io::Result<libc::sigset_t> {
    let mut all = empty_set();
    let mut before = empty_set();
    // SAFETY: a valid set.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: two valid sets.
    let error =
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    Ok(before)
}

fn restore_signals(set: &libc::sigset_t) {
    // SAFETY: a valid set; the old one is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, set, std::ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;

    use super::*;

    fn shell(script: &CStr) -> (Child, String) {
        shell_from(&Launchpad::new().unwrap(), script)
    }

    fn shell_from(launchpad: &Launchpad, script: &CStr) -> (Child, String) {
        let file = File::open("/bin/sh").unwrap();
        let (mut near, far) = std::io::pipe().unwrap();
        let program = Program {
            file: file.as_fd(),
            arguments: &[c"sh", c"-c", script],
            environment: &[c"A=b c"],
            descriptor: far.as_fd(),
        };
        let child = launchpad.launch(&program).unwrap();
        drop(far);
        let mut text = String::new();
        near.read_to_string(&mut text).unwrap();
        (child, text)
    }

    #[test]
    fn a_program_gets_its_descriptor_environment_and_a_session() {
        let script = c"echo $A >&3; exec 5</proc/self/stat; read -r p n s pp g sid rest <&5; \
            echo $((p - sid)) >&3; for f in 0 1 2; do \
            x=$(readlink /proc/$$/fd/$f); echo $x >&3; done; exit 3";
        let (child, text) = shell(script);
        assert_eq!(text, "b c\n0\n/dev/null\n/dev/null\n/dev/null\n");
        let exit = crate::pidfd::wait(child.pidfd.as_fd()).unwrap();
        assert_eq!(exit, crate::pidfd::Exit::Code(3));
    }

    #[test]
    fn no_other_descriptor_is_inherited() {
        let leak = || {
            let leaked = OwnedFd::from(File::open("/dev/zero").unwrap());
            rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
            leaked
        };
        let _low = leak();
        let launchpad = Launchpad::new().unwrap();
        let _high = leak();
        let (child, text) = shell_from(&launchpad, c"ls -l /proc/$$/fd >&3");
        assert!(
            text.contains("/dev/null") && !text.contains("/dev/zero"),
            "{text}"
        );
        crate::pidfd::wait(child.pidfd.as_fd()).unwrap();
    }

    #[test]
    fn a_file_that_is_no_program_is_an_error() {
        let file = File::open("/etc/passwd").unwrap();
        let program = Program {
            file: file.as_fd(),
            arguments: &[c"x"],
            environment: &[],
            descriptor: file.as_fd(),
        };
        let error = Launchpad::new().unwrap().launch(&program).unwrap_err();
        assert!(
            matches!(error.raw_os_error(), Some(libc::EACCES | libc::ENOEXEC)),
            "{error}"
        );
    }
}
