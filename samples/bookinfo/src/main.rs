//! `bookinfo SERVICE`: see the library.
fn main() -> anyhow::Result<()> {
    bookinfo::run(std::env::args().skip(1))
}
