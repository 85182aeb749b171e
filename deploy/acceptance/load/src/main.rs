//! A bounded load that counts every failed request.
fn main() {}
