// A shared library for softcert in Rust: the symbols of softcert_backend.h, softmax of float32.
//
//     rustc --crate-type cdylib -O -o libkernel.so kernel.rs
//     softcert check ./libkernel.so
use std::os::raw::{c_char, c_int, c_void};
use std::slice::{from_raw_parts, from_raw_parts_mut};

const OK: c_int = 0;
const UNSUPPORTED: c_int = 1;
const FLOAT32: i32 = 1;

#[no_mangle]
pub extern "C" fn softcert_abi_version() -> u32 {
    1
}

#[no_mangle]
pub extern "C" fn softcert_declaration() -> *const c_char {
    concat!(r#"{"name": "kernel.rs", "dtypes": ["float32"]}"#, "\0").as_ptr().cast()
}

/// # Safety
/// `x` and `y` point to `rows * n` numbers each, as softcert_backend.h has it.
#[no_mangle]
pub unsafe extern "C" fn softcert_softmax(
    dtype: i32,
    rows: i64,
    n: i64,
    beta: f64,
    x: *const c_void,
    y: *mut c_void,
) -> c_int {
    if dtype != FLOAT32 || beta != 1.0 {
        return UNSUPPORTED;
    }
    let (size, n) = ((rows * n) as usize, n as usize);
    let x = from_raw_parts(x.cast::<f32>(), size);
    let y = from_raw_parts_mut(y.cast::<f32>(), size);
    if n > 0 {
        for (row, out) in x.chunks(n).zip(y.chunks_mut(n)) {
            softmax(row, out);
        }
    }
    OK
}

fn softmax(x: &[f32], y: &mut [f32]) {
    let top = x.iter().fold(f32::NEG_INFINITY, |top, &value| top.max(value));
    let mut sum = 0.0;
    for (term, &value) in y.iter_mut().zip(x) {
        *term = (value - top).exp();
        sum += *term;
    }
    for term in y {
        *term /= sum;
    }
}
