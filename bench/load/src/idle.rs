//! Clients that have had their answer and stay.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::message;

pub(crate) fn run(target: SocketAddr, count: usize) -> io::Result<()> {
    let request = format!("GET / HTTP/1.1\r\nhost: {target}\r\n\r\n");
    let mut connections = Vec::with_capacity(count);
    let mut buffer = vec![0; 16 * 1024];
    for _ in 0..count {
        let mut stream = TcpStream::connect(target)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(request.as_bytes())?;
        let mut length = 0;
        loop {
            let read = stream.read(&mut buffer[length..])?;
            length += read;
            match message::response(&buffer[..length])? {
                Some(head) if head.status != 200 => {
                    return Err(io::Error::other(format!("status {}", head.status)));
                }
                Some(head) if (length - head.head_length) as u64 >= head.body_length => break,
                _ if read == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => {}
            }
        }
        connections.push(stream);
    }
    println!("{}", serde_json::json!({ "connections": connections.len() }));
    io::stdin().read_to_end(&mut buffer)?;
    Ok(())
}
