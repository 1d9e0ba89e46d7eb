//! Load tools and recorded results
fn main() {}
