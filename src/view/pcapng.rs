//! Capture files (pcapng), which Wireshark and tcpdump read.

use std::borrow::Cow;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow};
use pcap_parser::{
    EnhancedPacketBlock, InterfaceDescriptionBlock, Linktype, OptionCode, PcapNGOption,
    SectionHeaderBlock, ToVec,
};

use super::escape::escape;

/// Times are counted in nanoseconds.
const NANOSECONDS: u8 = 9;
/// Frames may have any length.
const NO_LIMIT: u32 = 0;
/// An option has its length in 16 bits, and ends at a multiple of four bytes.
const LONGEST_OPTION: usize = 0xfffc;
const APPLICATION: &str = concat!("xdpredir ", env!("CARGO_PKG_VERSION"));

/// Writes a capture file, each block with one write, so that a run that is killed cuts the last one at most.
pub struct Writer<W> {
    out: W,
    interfaces: u32,
}

/// The number of an interface in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InterfaceId(u32);

/// A frame of a capture.
pub struct Frame<'a> {
    pub interface: InterfaceId,
    pub time: SystemTime,
    /// What was captured of it.
    pub bytes: &'a [u8],
    /// How many bytes it has.
    pub len: usize,
    pub comment: Option<&'a str>,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    pub fn new(out: W) -> Result<Self> {
        let mut writer = Writer { out, interfaces: 0 };
        writer.write(SectionHeaderBlock {
            block_type: 0,
            block_len1: 0,
            bom: 0,
            major_version: 0,
            minor_version: 0,
            section_len: -1,
            options: vec![option(OptionCode::ShbUserAppl, APPLICATION)],
            block_len2: 0,
        })?;
        Ok(writer)
    }

    /// Adds an interface whose frames have Ethernet headers. Others may show its name on terminals.
    pub fn interface(&mut self, name: &str) -> Result<InterfaceId> {
        self.write(InterfaceDescriptionBlock {
            block_type: 0,
            block_len1: 0,
            linktype: Linktype::ETHERNET,
            reserved: 0,
            snaplen: NO_LIMIT,
            options: vec![option(OptionCode::IfName, &escape(name))],
            block_len2: 0,
            if_tsresol: NANOSECONDS,
            if_tsoffset: 0,
        })?;
        self.interfaces += 1;
        Ok(InterfaceId(self.interfaces - 1))
    }

    /// Adds a frame.
    pub fn frame(&mut self, frame: &Frame) -> Result<()> {
        let time = frame
            .time
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        let time = time.as_nanos() as u64; // until the year 2554
        let comment = frame
            .comment
            .map(|comment| option(OptionCode::Comment, comment));
        self.write(EnhancedPacketBlock {
            block_type: 0,
            block_len1: 0,
            if_id: frame.interface.0,
            ts_high: (time >> 32) as u32,
            ts_low: time as u32,
            caplen: frame.bytes.len() as u32,
            origlen: frame.len as u32,
            data: frame.bytes,
            options: comment.into_iter().collect(),
            block_len2: 0,
        })
    }

    /// The crate fills in lengths, magic numbers and the end of options.
    fn write(&mut self, mut block: impl ToVec) -> Result<()> {
        let bytes = block
            .to_vec()
            .map_err(|error| anyhow!("a block of a capture file: {error:?}"))?;
        let written = self.out.write_all(&bytes).and_then(|()| self.out.flush());
        written.context("cannot write the capture file")
    }
}

/// An option; what is too long for one is cut off.
fn option(code: OptionCode, text: &str) -> PcapNGOption<'_> {
    let mut end = text.len().min(LONGEST_OPTION);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = &text[..end];
    PcapNGOption {
        code,
        len: text.len() as u16,
        value: Cow::Borrowed(text.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io;

    use pcap_parser::traits::PcapNGPacketBlock;
    use pcap_parser::{Block, PcapBlockOwned, PcapNGSlice};

    /// Counts what it is asked to write.
    #[derive(Default)]
    struct Writes(Vec<Vec<u8>>);

    impl Write for &mut Writes {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn frame<'a>(interface: InterfaceId, bytes: &'a [u8], comment: Option<&'a str>) -> Frame<'a> {
        Frame {
            interface,
            time: UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789),
            bytes,
            len: 1000,
            comment,
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut writes = Writes::default();
        let mut writer = Writer::new(&mut writes).expect("a file");
        writer.interface("l\u{1b}n").expect("an interface");
        let wan = writer.interface("wan").expect("an interface");
        let long = "é".repeat(LONGEST_OPTION);
        for comment in [None, Some("by a rule"), Some(&long)] {
            writer
                .frame(&frame(wan, &[1, 2, 3, 4, 5], comment))
                .expect("a frame");
        }
        assert_eq!(writes.0.len(), 6, "each block is one write");
        let file = writes.0.concat();
        let mut comments = Vec::new();
        let mut names = Vec::new();
        for block in PcapNGSlice::from_slice(&file).expect("a capture file") {
            match block.expect("a whole block") {
                PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
                    assert_eq!(interface.ts_resolution(), Some(1_000_000_000));
                    names.push(
                        interface
                            .if_name()
                            .expect("a name")
                            .expect("text")
                            .to_string(),
                    );
                }
                PcapBlockOwned::NG(Block::EnhancedPacket(frame)) => {
                    assert_eq!((frame.if_id, frame.caplen, frame.origlen), (1, 5, 1000));
                    assert_eq!(frame.packet_data(), [1, 2, 3, 4, 5]);
                    let time = (u64::from(frame.ts_high) << 32) + u64::from(frame.ts_low);
                    assert_eq!(time, 1_700_000_000_123_456_789);
                    let comment = frame.options.iter().find(|o| o.code == OptionCode::Comment);
                    comments.push(comment.map(|o| o.as_str().expect("text").to_string()));
                }
                _ => {}
            }
        }
        assert_eq!(names, ["l\\x1bn", "wan"]);
        let cut = long[..LONGEST_OPTION].to_string();
        assert_eq!(comments, [None, Some("by a rule".into()), Some(cut)]);
    }
}
