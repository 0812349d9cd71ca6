//! Frames from a capture file, or written as hexadecimal digits.

use std::io::Cursor;

use anyhow::Result;
use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};

use crate::error::{Exit, failure};

/// A capture file begins with one of these: pcapng's section header, and pcap's magic numbers.
const CAPTURES: [[u8; 4]; 5] = [
    [0x0a, 0x0d, 0x0d, 0x0a],
    [0xd4, 0xc3, 0xb2, 0xa1],
    [0xa1, 0xb2, 0xc3, 0xd4],
    [0x4d, 0x3c, 0xb2, 0xa1],
    [0xa1, 0xb2, 0x3c, 0x4d],
];

/// Reads the frames of a file: pcap, pcapng, or text with a frame in hexadecimal digits a paragraph.
pub fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
    let is_capture = bytes
        .first_chunk()
        .is_some_and(|magic| CAPTURES.contains(magic));
    let frames = if is_capture {
        captured(bytes)?
    } else {
        written(bytes)?
    };
    match frames.is_empty() {
        true => Err(bad("there is no frame in it".into())),
        false => Ok(frames),
    }
}

fn bad(why: String) -> anyhow::Error {
    failure(Exit::Usage, why)
}

fn captured(bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
    let damaged = |_: PcapError<&[u8]>| bad("the capture file is damaged".into());
    // Its buffer has room for all of the file, so that no block is too large.
    let mut reader = create_reader(bytes.len(), Cursor::new(bytes)).map_err(damaged)?;
    let (mut frames, mut links) = (Vec::new(), Vec::new());
    loop {
        let (length, block) = match reader.next() {
            Ok(next) => next,
            Err(PcapError::Eof) => return Ok(frames),
            // It has not seen yet that there is no more.
            Err(PcapError::Incomplete(_)) => {
                reader.refill().map_err(damaged)?;
                continue;
            }
            Err(_) => return Err(bad(damaged_after(frames.len()))),
        };
        let frame = match &block {
            PcapBlockOwned::LegacyHeader(header) => {
                links = vec![header.network];
                None
            }
            PcapBlockOwned::Legacy(frame) => Some((0, frame.data, frame.origlen)),
            PcapBlockOwned::NG(Block::SectionHeader(_)) => {
                links.clear();
                None
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                links.push(interface.linktype);
                None
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(frame)) => {
                Some((frame.if_id, frame.packet_data(), frame.origlen))
            }
            PcapBlockOwned::NG(Block::SimplePacket(frame)) => {
                Some((0, frame.packet_data(), frame.origlen))
            }
            PcapBlockOwned::NG(_) => None,
        };
        if let Some((interface, data, whole)) = frame {
            let number = frames.len() + 1;
            require_ethernet(number, links.get(interface as usize))?;
            require_whole(number, data.len(), whole as usize)?;
            frames.push(data.to_vec());
        }
        reader.consume(length);
    }
}

fn damaged_after(frames: usize) -> String {
    format!("the capture file is damaged behind frame {frames}")
}

fn require_ethernet(number: usize, link: Option<&Linktype>) -> Result<()> {
    match link {
        Some(&Linktype::ETHERNET) => Ok(()),
        Some(link) => Err(bad(format!(
            "frame {number} has link type {}, and only Ethernet frames arrive at interfaces",
            link.0
        ))),
        None => Err(bad(format!("frame {number} is of no interface"))),
    }
}

fn require_whole(number: usize, captured: usize, whole: usize) -> Result<()> {
    if captured >= whole {
        return Ok(());
    }
    Err(bad(format!(
        "frame {number} has {captured} of {whole} bytes: capture whole frames (tcpdump -s 0)"
    )))
}

/// A frame a paragraph. Between bytes there may be spaces, colons and line ends.
fn written(bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
    let text = str::from_utf8(bytes);
    let text = text.map_err(|_| bad("neither pcap, pcapng nor hexadecimal digits".into()))?;
    let (mut frames, mut digits) = (Vec::new(), String::new());
    for (number, line) in (1..).zip(text.lines().chain([""])) {
        if line.trim().is_empty() && !digits.is_empty() {
            frames.push(bytes_of(&digits).ok_or_else(|| {
                bad(format!(
                    "line {number}: the frame before it ends with half a byte"
                ))
            })?);
            digits.clear();
        }
        for c in line.chars().filter(|c| !c.is_whitespace() && *c != ':') {
            if !c.is_ascii_hexdigit() {
                return Err(bad(format!("line {number}: {c:?} is no hexadecimal digit")));
            }
            digits.push(c);
        }
    }
    Ok(frames)
}

fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    pairs.iter().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(bytes: &[u8], said: &str) {
        let error = read(bytes).expect_err("it is refused").to_string();
        assert!(error.contains(said), "{error}");
    }

    /// A pcap file with little-endian numbers.
    fn pcap(link: u32, captured: &[u8], whole: u32) -> Vec<u8> {
        let header = [0xa1b2c3d4, 2 | 4 << 16, 0, 0, 65535, link];
        let record = [1, 2, captured.len() as u32, whole];
        let words = header.into_iter().chain(record);
        let mut bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
        bytes.extend(captured);
        bytes
    }

    #[test]
    fn digits_are_a_frame_a_paragraph() {
        let frames = read(b"02:00 0a\nff\n\n\n 01\n").expect("two frames");
        assert_eq!(frames, [vec![2, 0, 10, 255], vec![1]]);
        refused(b"02 0g", "line 1: 'g' is no hexadecimal digit");
        refused(b"02\n0", "ends with half a byte");
        refused(b" \n", "no frame");
        refused(&[0xff, 0xfe], "neither pcap");
    }

    #[test]
    fn capture_files_have_whole_ethernet_frames() {
        assert_eq!(read(&pcap(1, &[1, 2, 3], 3)).expect("a frame"), [[1, 2, 3]]);
        refused(&pcap(101, &[1, 2, 3], 3), "frame 1 has link type 101");
        refused(&pcap(1, &[1, 2, 3], 9), "frame 1 has 3 of 9 bytes");
        let whole = pcap(1, &[1, 2, 3], 3);
        refused(&whole[..whole.len() - 1], "damaged behind frame 0");
        refused(&whole[..8], "damaged");
    }
}
