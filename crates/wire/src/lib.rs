//! Bytes: HTTP/1 codec, protocol sniffing. Sans-I/O: bytes in, events and bytes out.
