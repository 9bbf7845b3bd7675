//! `libbantam_virtual_driver`: [`bantam_virtual::Virtual`] as a shared library, as a vendor would ship it.

bantam_driver_abi::export!(bantam_virtual::Virtual);
