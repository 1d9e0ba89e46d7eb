//! Generates and checks what is generated: reference, man pages, file lengths
fn main() {}
