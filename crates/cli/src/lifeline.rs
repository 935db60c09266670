//! The child's side of `supervise`: end when the parent is gone.
use std::io::Read;

/// With `--lifeline`, standard input is a pipe that ends with the parent; then `end` is called, once.
pub fn watch(end: impl FnOnce() + Send + 'static) {
    std::thread::spawn(move || {
        let mut buffer = [0u8; 64];
        let mut input = std::io::stdin().lock();
        loop {
            match input.read(&mut buffer) {
                Ok(0) => break,
                Err(e) if e.kind() != std::io::ErrorKind::Interrupted => break,
                _ => {}
            }
        }
        end();
    });
}
