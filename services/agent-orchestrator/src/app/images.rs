//! Pictures of a request: only references that every model can be given.

use domain::Image;
use url::Url;
use wire::ImageBody;

use super::submission::Faults;

const IMAGES_MAX: usize = 16;
const URL_MAX: usize = 2_048;

/// Checks the pictures at `pointer`; what is wrong is added to the faults.
pub(super) fn check(faults: &mut Faults, pointer: &str, images: &[ImageBody]) -> Vec<Image> {
    if images.len() > IMAGES_MAX {
        faults.add(pointer, format!("must have at most {IMAGES_MAX} entries"));
        return Vec::new();
    }
    for (index, image) in images.iter().enumerate() {
        if let Err(reason) = check_url(&image.url) {
            faults.add(format!("{pointer}/{index}/url"), reason);
        }
        if image.media_type.as_ref().is_some_and(|given| !is_image_type(given)) {
            faults.add(format!("{pointer}/{index}/media_type"), "must be the type of a picture, such as image/png");
        }
    }
    images.iter().map(|image| Image { url: image.url.clone(), media_type: image.media_type.clone() }).collect()
}

fn check_url(text: &str) -> Result<(), &'static str> {
    if text.len() > URL_MAX || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err("must be at most 2048 bytes without spaces and control characters");
    }
    if let Some(name) = text.strip_prefix("artifact:") {
        let sound = name.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
        return if sound { Ok(()) } else { Err("must name a file after `artifact:`, such as artifact:chart.png") };
    }
    let Ok(url) = Url::parse(text) else { return Err("must be a URL that begins with https:// or artifact:") };
    if url.scheme() != "https" || url.host().is_none() {
        return Err("must begin with https:// or artifact:");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain a user name or password");
    }
    Ok(())
}

fn is_image_type(text: &str) -> bool {
    text.strip_prefix("image/").is_some_and(|rest| {
        (1..=64).contains(&rest.len())
            && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".+-".contains(&b))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(images: &[ImageBody]) -> Vec<String> {
        let mut faults = Faults::default();
        check(&mut faults, "/images", images);
        faults.0.into_iter().map(|fault| fault.pointer).collect()
    }

    fn image(url: &str) -> ImageBody {
        ImageBody { url: url.to_owned(), media_type: None }
    }

    #[test]
    fn a_picture_is_on_the_web_or_kept_with_the_task() {
        for good in
            ["https://example.com/a.png", "https://example.com:8443/a?b=c", "artifact:chart.png", "artifact:a/b"]
        {
            assert!(places(&[image(good)]).is_empty(), "{good}");
        }
        let long = format!("https://example.com/{}", "a".repeat(2_048));
        for wrong in [
            "",
            "chart.png",
            "http://example.com/a.png",
            "data:image/png;base64,AAAA",
            "file:///etc/passwd",
            "https://",
            "https://user:secret@example.com/",
            "artifact:",
            "artifact:../a",
            "https://example.com/a b",
            &long,
        ] {
            assert_eq!(places(&[image(wrong)]), ["/images/0/url"], "{wrong}");
        }
    }

    #[test]
    fn pictures_are_few_and_say_what_they_are() {
        let many: Vec<ImageBody> = (0..17).map(|n| image(&format!("artifact:{n}.png"))).collect();
        assert_eq!(places(&many), ["/images"]);
        assert!(places(&many[..16]).is_empty());
        for (media_type, sound) in
            [("image/png", true), ("image/svg+xml", true), ("text/html", false), ("image/", false)]
        {
            let image = ImageBody { media_type: Some(media_type.to_owned()), ..image("artifact:a") };
            assert_eq!(places(&[image]).is_empty(), sound, "{media_type}");
        }
    }
}
