//! `bantam_driver.h` in Rust: the layouts in [`raw`], and [`Vendor`], a trait without unsafe code for drivers that are written
//! in Rust. [`export!`] makes a `cdylib` of such a driver.

pub mod raw;
mod vendor;

pub use vendor::{Device, Error, Executable, Info, Kind, Vendor, Verdict, get};

/// Exports `bantam_driver_get` for a type that implements [`Vendor`].
#[macro_export]
macro_rules! export {
    ($vendor:ty) => {
        /// The entry point of `bantam_driver.h`.
        ///
        /// # Safety
        ///
        /// As the header says.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn bantam_driver_get(
            version: u32,
            theirs: *mut u32,
            driver: *mut *const $crate::raw::Driver,
        ) -> $crate::raw::Status {
            // SAFETY: passed on to the caller.
            unsafe { $crate::get::<$vendor>(version, theirs, driver) }
        }
    };
}
