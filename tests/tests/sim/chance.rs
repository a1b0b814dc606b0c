//! The operating system's chance, taken from the seed: the one thing that a seeded run cannot be handed as an argument.
//!
//! The standard library asks the C function `getrandom` for the keys of every `HashMap`, and tokio takes from those which
//! branch of a `select!` is polled first and which waiter of a `watch` is woken first. A program that defines this
//! function is asked in the library's stead. Only the process of one run is: until [`plant`] everything goes to the
//! kernel, as always. A process runs one seed and ends, because tokio also counts tasks and runtimes as long as it lives.
//!
//! It is `tokio_unstable` that would otherwise let the seeds be set, for the price of building everything with it, and the
//! maps would still be in an order of their own.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use libc::{SYS_getrandom, c_long, c_uint, c_void, size_t, ssize_t, syscall};

/// The seed of this process, and one; zero: chance is the kernel's.
static PLANTED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// How often this thread has asked: which thread asks first must not matter.
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

/// From now on this process has no other chance than the seed's.
///
/// Call it before the thread that runs the seed begins, because each thread keeps the keys that it first got.
pub(crate) fn plant(seed: u64) {
    PLANTED.store(seed.wrapping_add(1).max(1), Ordering::SeqCst);
    let keys = || std::thread::spawn(|| RandomState::new().hash_one(0)).join();
    assert_eq!(keys().ok(), keys().ok(), "hash maps take their keys from somewhere else than `getrandom`");
}

/// What the C library's function of that name does, from the seed once there is one.
///
/// # Safety
/// `buffer` must have room for `length` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn getrandom(buffer: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
    let planted = PLANTED.load(Ordering::SeqCst);
    if planted == 0 {
        // SAFETY: the caller's own promise, passed on to the kernel.
        let got: c_long = unsafe { syscall(SYS_getrandom, buffer, length, flags) };
        return got as ssize_t;
    }
    let mut state = planted ^ ASKED.replace(ASKED.get() + 1).wrapping_mul(0xd134_2543_de82_ef95);
    for at in 0..length {
        // SAFETY: `at` is below `length`, for which the caller has promised room.
        unsafe { buffer.cast::<u8>().add(at).write(split_mix(&mut state) as u8) };
    }
    ssize_t::try_from(length).unwrap_or(ssize_t::MAX)
}

/// SplitMix64 (Steele, Lea and Flood, 2014): small, and good enough to tell one key from another.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
