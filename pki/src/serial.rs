//! The serial number of a certificate: what a list of revoked certificates names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes of a serial: 126 random bits, where the CA/Browser Forum's baseline asks for 64. RFC 5280 §4.1.2.2
/// allows 20.
const SERIAL_BYTES: usize = 16;

/// The serial number of one certificate, unique for ever. Its text form is 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial([u8; SERIAL_BYTES]);

/// Why bytes or a text are not a serial.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a certificate serial: expected 16 bytes, or 32 lower-case hex digits")]
pub struct SerialError;

/// The operating system gave no random bytes: nothing that needs a key can go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system's random generator failed")]
pub struct NoEntropy;

impl Serial {
    /// A new random serial.
    ///
    /// # Errors
    /// When the system's random generator fails.
    pub fn random() -> Result<Self, NoEntropy> {
        let mut bytes = [0_u8; SERIAL_BYTES];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoEntropy)?;
        // A DER integer drops leading zeros and is negative when its top bit is set. With 01 on top it is
        // always these 16 bytes, read back as written.
        bytes[0] = bytes[0] & 0b0011_1111 | 0b0100_0000;
        Ok(Self(bytes))
    }

    /// The serial whose bytes these are, as they stand in a certificate.
    ///
    /// # Errors
    /// When they are not 16: then it is not a certificate of ours.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SerialError> {
        bytes.try_into().map(Self).map_err(|_| SerialError)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; SERIAL_BYTES] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Serial {
    type Err = SerialError;

    fn from_str(text: &str) -> Result<Self, SerialError> {
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(SerialError);
        }
        Self::from_bytes(&hex::decode(text).map_err(|_| SerialError)?)
    }
}

impl Serialize for Serial {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Serial {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_reads_back_as_itself() {
        let serial = Serial::random().unwrap();
        assert_eq!(serial.to_string().parse(), Ok(serial));
        assert!("00".parse::<Serial>().is_err());
    }

    #[test]
    fn a_serial_is_a_positive_integer_of_full_length() {
        for _ in 0..1_000 {
            let top = Serial::random().unwrap().as_bytes()[0];
            assert!((0x40..0x80).contains(&top), "{top:#x}");
        }
    }
}
