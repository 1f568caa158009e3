//! Counts the cuts that fastcdc-rs makes with the parameters of REAPI.
use fastcdc::v2020::{FastCDC, Normalization};
#[no_mangle]
pub unsafe extern "C" fn fastcdc_rs_cuts(data: *const u8, size: usize, average: u32) -> usize {
    let source = std::slice::from_raw_parts(data, size);
    FastCDC::with_level(source, average / 4, average, average * 4, Normalization::Level2).count()
}
