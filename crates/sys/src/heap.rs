//! The C library's heap, for processes that live long and must stay small.

/// Makes the heap give memory back early: blocks from 64 KiB on are mappings of their own, and freed memory at the heap's
/// end goes back from 64 KiB on.
pub fn keep_small() {
    let limit = 64 << 10;
    // SAFETY: mallopt only sets parameters of the allocator.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, limit) };
    // SAFETY: as above.
    unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, limit) };
    // SAFETY: as above.
    unsafe { libc::mallopt(libc::M_TOP_PAD, 16 << 10) };
}

/// Gives every free page of the heap back to the kernel.
pub fn trim() {
    // SAFETY: malloc_trim works on free memory only.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(test)]
mod tests {
    #[test]
    fn freed_memory_leaves_the_process() {
        super::keep_small();
        let resident = || {
            let text = std::fs::read_to_string("/proc/thread-self/statm").unwrap();
            text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
        };
        let pieces: Vec<Vec<u8>> = (0..4096).map(|_| vec![1; 8000]).collect();
        let full = resident();
        drop(pieces);
        super::trim();
        assert!(resident() + (16 << 20) < full);
    }
}
