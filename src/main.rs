//! The program `tidemill`.

fn main() {
    tidemill::program()
}
