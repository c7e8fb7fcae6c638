//! The process that holds a pod's namespaces open.
//!
//! It reaps orphans, ends on SIGTERM or SIGINT, and does nothing else. No allocator, no C library, no handlers: the
//! three signals are blocked and waited for, which also keeps the kernel from dropping them for a namespace's init.
#![no_std]
#![no_main]

use core::arch::{asm, global_asm};

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
const SIGCHLD: i32 = 17;
const SIG_BLOCK: usize = 0;
const WNOHANG: usize = 1;
/// The kernel's `sigset_t` is 64 bits.
const SET_SIZE: usize = 8;
static SIGNALS: u64 = 1 << (SIGINT - 1) | 1 << (SIGTERM - 1) | 1 << (SIGCHLD - 1);

#[cfg(target_arch = "x86_64")]
mod number {
    pub const RT_SIGPROCMASK: usize = 14;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const WAIT4: usize = 61;
    pub const EXIT_GROUP: usize = 231;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const RT_SIGPROCMASK: usize = 135;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const WAIT4: usize = 260;
    pub const EXIT_GROUP: usize = 94;
}

#[cfg(target_arch = "x86_64")]
fn syscall(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result;
    // SAFETY: every caller passes null or a pointer to SIGNALS, which the kernel only reads.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
             lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

#[cfg(target_arch = "aarch64")]
fn syscall(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result;
    // SAFETY: every caller passes null or a pointer to SIGNALS, which the kernel only reads.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as isize => result, in("x1") b, in("x2") c, in("x3") d, options(nostack));
    }
    result
}

// The stack is aligned by hand: the kernel enters here, not a caller.
#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "and rsp, -16", "call pause");
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "bl pause");

#[unsafe(no_mangle)]
extern "C" fn pause() -> ! {
    let signals = &raw const SIGNALS as usize;
    syscall(number::RT_SIGPROCMASK, SIG_BLOCK, signals, 0, SET_SIZE);
    loop {
        match syscall(number::RT_SIGTIMEDWAIT, signals, 0, 0, SET_SIZE) as i32 {
            SIGCHLD => while syscall(number::WAIT4, usize::MAX, 0, WNOHANG, 0) > 0 {},
            SIGINT | SIGTERM => exit(0),
            _ => {}
        }
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    exit(1)
}

fn exit(code: usize) -> ! {
    loop {
        syscall(number::EXIT_GROUP, code, 0, 0, 0);
    }
}
