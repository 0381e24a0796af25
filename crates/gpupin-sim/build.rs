//! Links the simulated libraries so that they find their own functions.

fn main() {
    // Copies of the library hide some of its functions, which must then not be looked up at run time.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-Bsymbolic");
}
