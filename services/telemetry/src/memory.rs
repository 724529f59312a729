//! What the allocator keeps for itself.
//!
//! A backlog is worked off in buffers of tens of MiB, which come and go thousands of times. glibc
//! learns from that: each large block that is freed raises the size from which it asks the system
//! for memory of its own, up to 32 MiB, so that soon the buffers lie in the heap, between small
//! blocks that live longer, and the process stays as large as the backlog made it. Both functions
//! do nothing where the allocator is not glibc's.

/// Fixes the size from which a block is a mapping of its own, which goes back to the system when it
/// is freed. To be called first of all: `mallopt` is not safe beside other threads.
pub fn keep_little() {
    #[cfg(target_env = "gnu")]
    {
        /// Setting a threshold at all ends its growth. Blocks of this size are the buffers of whole
        /// flushes: hundreds a second at most, of which a mapping costs microseconds each.
        const THRESHOLD: libc::c_int = 1 << 20;
        #[expect(unsafe_code, reason = "glibc's only interface to its allocator")]
        // SAFETY: plain integers, before any other thread is started; a refused setting changes
        // nothing
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, THRESHOLD);
            libc::mallopt(libc::M_TRIM_THRESHOLD, THRESHOLD);
        }
    }
}

/// Gives free pages back to the system: milliseconds, for a moment when nothing else is to be done.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "glibc's only interface to its allocator")]
        // SAFETY: takes the locks of all arenas, and touches free blocks only
        unsafe {
            libc::malloc_trim(0);
        }
    }
}
