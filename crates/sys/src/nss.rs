//! Name lookups of the C library in a static binary.

use std::ffi::{CStr, c_char, c_int};

unsafe extern "C" {
    /// glibc: decides which services a database is looked up in.
    fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
}

/// Keeps the C library from loading the host's shared libraries for name lookups, which may not fit a static binary; hosts come
/// from files and DNS, users and groups from files. Call it first thing in `main`.
pub fn use_files_only() {
    let configure = |database: &CStr, services: &CStr| {
        // SAFETY: both strings are terminated; the process has one thread at this time.
        unsafe { __nss_configure_lookup(database.as_ptr(), services.as_ptr()) };
    };
    configure(c"hosts", c"files dns");
    for database in [c"passwd", c"group", c"services", c"protocols", c"networks"] {
        configure(database, c"files");
    }
}
