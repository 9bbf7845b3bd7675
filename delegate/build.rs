//! Compiles the few functions that have to be C.

fn main() {
    println!("cargo:rerun-if-changed=src/driver/tflite/report_error.c");
    cc::Build::new()
        .file("src/driver/tflite/report_error.c")
        .warnings_into_errors(true)
        .compile("bantam_report_error");
}
