//! Pictures of a request: by address, or in it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::Image;

/// Where a picture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageSource<'a> {
    /// At this address, from where the provider fetches it.
    Url(&'a str),
    /// In the request.
    Data {
        /// Its media type, such as `image/png`.
        media_type: &'a str,
        /// Its bytes in base64, checked.
        base64: &'a str,
    },
}

/// Why a picture cannot be sent. Says nothing of what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Neither an address that a provider can fetch nor data.
    #[error("a picture is given by something else than an https: or data: URL")]
    Address,
    /// A `data:` URL that is none.
    #[error("a picture's data: URL is not of the form data:image/TYPE;base64,DATA")]
    Data,
    /// Data of another kind.
    #[error("a picture's data: URL has a media type that is no image")]
    MediaType,
}

/// Reads where a picture is.
pub fn image_source(image: &Image) -> Result<ImageSource<'_>, ImageError> {
    let url = image.url.trim();
    let Some(data) = strip_scheme(url, "data:") else {
        let web = strip_scheme(url, "https://").or_else(|| strip_scheme(url, "http://"));
        return web.filter(|rest| !rest.is_empty()).map(|_| ImageSource::Url(url)).ok_or(ImageError::Address);
    };
    let (head, base64) = data.split_once(',').ok_or(ImageError::Data)?;
    let head = head.strip_suffix(";base64").ok_or(ImageError::Data)?;
    let told = head.split(';').next().unwrap_or_default();
    let media_type = if told.is_empty() { image.media_type.as_deref().unwrap_or_default() } else { told };
    if !media_type.starts_with("image/") {
        return Err(ImageError::MediaType);
    }
    if base64.is_empty() || STANDARD.decode(base64).is_err() {
        return Err(ImageError::Data);
    }
    Ok(ImageSource::Data { media_type, base64 })
}

impl ImageSource<'_> {
    /// Its bytes, when they are in the request.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Self::Url(_) => None,
            Self::Data { base64, .. } => STANDARD.decode(base64).ok(),
        }
    }
}

fn strip_scheme<'a>(url: &'a str, scheme: &str) -> Option<&'a str> {
    let head = url.get(..scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then(|| &url[scheme.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<(String, Option<Vec<u8>>), ImageError> {
        let image = Image { url: url.to_owned(), media_type: Some("image/gif".to_owned()) };
        let source = image_source(&image)?;
        let told = match source {
            ImageSource::Url(url) => url.to_owned(),
            ImageSource::Data { media_type, .. } => media_type.to_owned(),
        };
        Ok((told, source.bytes()))
    }

    #[test]
    fn addresses_and_data_are_told_apart() {
        assert_eq!(read("https://a.example/b.png"), Ok(("https://a.example/b.png".to_owned(), None)));
        assert_eq!(read("data:image/png;base64,AAEC"), Ok(("image/png".to_owned(), Some(vec![0, 1, 2]))));
        assert_eq!(read("DATA:image/png;x=y;base64,AA=="), Ok(("image/png".to_owned(), Some(vec![0]))));
        assert_eq!(read("data:;base64,AA=="), Ok(("image/gif".to_owned(), Some(vec![0]))));
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        for url in ["", "artifact:a.png", "file:///etc/passwd", "https://", "/a.png", "é"] {
            assert_eq!(read(url), Err(ImageError::Address), "{url}");
        }
        for url in [
            "data:",
            "data:image/png,abc",
            "data:image/png;base64,",
            "data:image/png;base64,A",
            "data:image/png;base64,é",
        ] {
            assert_eq!(read(url), Err(ImageError::Data), "{url}");
        }
        assert_eq!(read("data:text/html;base64,AA=="), Err(ImageError::MediaType));
    }
}
