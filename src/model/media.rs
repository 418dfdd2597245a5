//! [`MediaResource`]: text, picture, sound or film of a document or multimodal node.

use crate::kv::Text;

/// A piece of media, by value, by path or by address.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MediaResource {
    /// Embeddings of it.
    pub embeddings: Option<MediaEmbeddings>,
    /// The bytes themselves. LlamaIndex drops them when it stores a node; here they are kept.
    pub data: Option<MediaData>,
    /// It in words.
    pub text: Option<Text>,
    /// A file that holds it.
    pub path: Option<Text>,
    /// An address that gives it.
    pub url: Option<Text>,
    /// Its kind, such as `image/png`; guessed from the path when a node is read without one.
    pub mimetype: Option<Text>,
}

/// Embeddings of a resource.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MediaEmbeddings {
    /// The dense one.
    pub dense: Option<Vec<f64>>,
    /// The sparse one.
    pub sparse: Option<Vec<f64>>,
}

/// Raw bytes, held in base64 as LlamaIndex does, since its hash is taken of that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MediaData {
    base64: Text,
}

impl MediaResource {
    /// A resource that is a text.
    pub fn from_text(text: impl Into<Text>) -> Self {
        MediaResource { text: Some(text.into()), ..MediaResource::default() }
    }

    /// A resource that is in a file; its kind is guessed from the name.
    pub fn from_path(path: impl Into<Text>) -> Self {
        let path = path.into();
        let mimetype = mimetype_of_path(&path);
        MediaResource { path: Some(path), mimetype, ..MediaResource::default() }
    }

    /// A resource given by its bytes.
    pub fn from_data(bytes: &[u8]) -> Self {
        MediaResource { data: Some(MediaData::new(bytes)), ..MediaResource::default() }
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

impl MediaData {
    /// Holds `bytes`.
    pub fn new(bytes: &[u8]) -> Self {
        let mut base64 = String::with_capacity(bytes.len().div_ceil(3) * 4);
        for chunk in bytes.chunks(3) {
            let group = chunk.iter().fold(0u32, |group, byte| group << 8 | u32::from(*byte));
            let group = group << (8 * (3 - chunk.len()));
            for place in 0..4 {
                let sextet = (group >> (18 - 6 * place)) as usize & 0x3f;
                base64.push(if place <= chunk.len() { char::from(ALPHABET[sextet]) } else { '=' });
            }
        }
        MediaData { base64: base64.into() }
    }

    /// Takes base64 as it is; whether it is well formed shows in [`MediaData::to_bytes`].
    pub fn from_base64(base64: impl Into<Text>) -> Self {
        MediaData { base64: base64.into() }
    }

    /// The base64 text.
    pub fn as_base64(&self) -> &Text {
        &self.base64
    }

    /// The bytes; `None` if the base64 is not well formed.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let text = self.base64.as_bytes();
        let data = text.strip_suffix(b"=").unwrap_or(text);
        let data = data.strip_suffix(b"=").unwrap_or(data);
        if !text.len().is_multiple_of(4) || data.len() % 4 == 1 {
            return None;
        }
        let mut bytes = Vec::with_capacity(data.len() / 4 * 3 + 2);
        for chunk in data.chunks(4) {
            let mut group = 0u32;
            for byte in chunk {
                let sextet = ALPHABET.iter().position(|known| known == byte)?;
                group = group << 6 | u32::try_from(sextet).ok()?;
            }
            let group = group << (6 * (4 - chunk.len()));
            bytes.extend([16, 8, 0].iter().take(chunk.len() - 1).map(|low| (group >> low) as u8));
        }
        Some(bytes)
    }
}

/// The kind that the file name's extension stands for, as LlamaIndex guesses it (with the Python
/// package `filetype`, whose names these are). Case counts, as there.
pub(super) fn mimetype_of_path(path: &Text) -> Option<Text> {
    let path = path.as_str()?;
    let name = path.rsplit('/').find(|part| !part.is_empty() && *part != ".")?;
    let (stem, extension) = name.rsplit_once('.')?;
    if stem.is_empty() {
        return None;
    }
    let found = MIMETYPES.iter().find(|(known, _)| *known == extension)?;
    Some(Text::from_static(found.1))
}

#[rustfmt::skip]
const MIMETYPES: [(&str, &str); 55] = [
    ("jpg", "image/jpeg"), ("jpx", "image/jpx"), ("apng", "image/apng"), ("png", "image/png"),
    ("gif", "image/gif"), ("webp", "image/webp"), ("tif", "image/tiff"),
    ("cr2", "image/x-canon-cr2"), ("bmp", "image/bmp"), ("jxr", "image/vnd.ms-photo"),
    ("psd", "image/vnd.adobe.photoshop"), ("ico", "image/x-icon"), ("heic", "image/heic"),
    ("avif", "image/avif"), ("dwg", "image/vnd.dwg"), ("xcf", "image/x-xcf"),
    ("dcm", "application/dicom"),
    ("aac", "audio/aac"), ("midi", "audio/midi"), ("mp3", "audio/mpeg"), ("m4a", "audio/mp4"),
    ("ogg", "audio/ogg"), ("flac", "audio/x-flac"), ("wav", "audio/x-wav"),
    ("amr", "audio/amr"), ("aiff", "audio/x-aiff"),
    ("3gp", "video/3gpp"), ("mp4", "video/mp4"), ("m4v", "video/x-m4v"),
    ("mkv", "video/x-matroska"), ("mov", "video/quicktime"), ("avi", "video/x-msvideo"),
    ("wmv", "video/x-ms-wmv"), ("mpg", "video/mpeg"), ("webm", "video/webm"),
    ("flv", "video/x-flv"),
    ("doc", "application/msword"), ("xls", "application/vnd.ms-excel"),
    ("ppt", "application/vnd.ms-powerpoint"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    ("odt", "application/vnd.oasis.opendocument.text"),
    ("ods", "application/vnd.oasis.opendocument.spreadsheet"),
    ("odp", "application/vnd.oasis.opendocument.presentation"),
    ("epub", "application/epub+zip"), ("pdf", "application/pdf"), ("rtf", "application/rtf"),
    ("zip", "application/zip"), ("tar", "application/x-tar"), ("gz", "application/gzip"),
    ("bz2", "application/x-bzip2"), ("7z", "application/x-7z-compressed"),
    ("xz", "application/x-xz"), ("zst", "application/zstd"),
];
