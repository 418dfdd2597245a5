//! What all fuzz targets share: an allocator that ends the process at an allocation that no input
//! of a few kilobytes can need. libFuzzer's own limit does nothing without a sanitizer.

use std::alloc::{GlobalAlloc, Layout, System};

/// Largest allocation, in bytes.
const ALLOCATION_MAX: usize = 32 << 20;

struct Limited;

#[global_allocator]
static LIMITED: Limited = Limited;

// SAFETY: all work is done by the system's allocator, with the arguments as they came.
unsafe impl GlobalAlloc for Limited {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        check(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check(size);
        unsafe { System.realloc(ptr, layout, size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        unsafe { System.dealloc(ptr, layout) }
    }
}

fn check(size: usize) {
    if size > ALLOCATION_MAX {
        // A signal, so that libFuzzer keeps the input.
        std::process::abort();
    }
}

/// Links the allocator into a target.
pub fn limit_allocations() {}
