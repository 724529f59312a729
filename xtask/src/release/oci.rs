//! Images and other artifacts as OCI layouts, written without a container engine: an image that
//! begins with nothing is one archive and two documents about it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::arch::Arch;
use super::archive::{self, File};
use super::json;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A folder with blobs by their digests, from which `crane`, `skopeo` and `oras` push.
#[derive(Debug)]
pub struct Layout {
    folder: PathBuf,
}

/// What a blob is, as other documents name it.
#[derive(Clone, Debug)]
pub struct Descriptor {
    media_type: String,
    /// `sha256:` and 64 digits.
    pub digest: String,
    size: u64,
    platform: Option<Arch>,
}

/// What an image does, and when it was made.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    /// The title of the image.
    pub title: &'a str,
    /// The command; none for an image that only carries files.
    pub entrypoint: Option<String>,
    /// Labels, which are annotations of manifest and index too.
    pub labels: Vec<(String, String)>,
    /// Seconds since 1970.
    pub time: u64,
}

impl Layout {
    /// An empty layout in this folder, which is made.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn create(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder.join("blobs/sha256"))
            .with_context(|| format!("cannot create {}", folder.display()))?;
        fs::write(
            folder.join("oci-layout"),
            br#"{"imageLayoutVersion":"1.0.0"}"#,
        )?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// Stores a blob.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn blob(&self, media_type: &str, bytes: &[u8]) -> anyhow::Result<Descriptor> {
        let digest = archive::sha256(bytes);
        fs::write(self.folder.join("blobs/sha256").join(&digest), bytes)?;
        Ok(Descriptor {
            media_type: media_type.to_owned(),
            digest: format!("sha256:{digest}"),
            size: bytes.len() as u64,
            platform: None,
        })
    }

    /// An image for one architecture out of these files.
    ///
    /// # Errors
    /// It cannot be packed or written.
    pub fn image(
        &self,
        image: &Image<'_>,
        arch: Arch,
        files: &[File],
    ) -> anyhow::Result<Descriptor> {
        let layer = archive::tar(files, image.time)?;
        let packed = self.blob(LAYER, &archive::gzip(&layer)?)?;
        let created = image.created();
        let mut run = json!({ "User": "65532:65532", "Labels": image.annotations() });
        if let Some(entrypoint) = &image.entrypoint {
            run["Entrypoint"] = json!([entrypoint]);
        }
        let config = json!({
            "architecture": arch.to_string(),
            "os": "linux",
            "created": created,
            "config": run,
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", archive::sha256(&layer))] },
            "history": [{ "created": created, "created_by": "cargo xtask release" }],
        });
        let config = self.blob(CONFIG, &json::bytes(&config))?;
        let mut manifest = self.manifest(None, &config, &[packed], &image.annotations())?;
        manifest.platform = Some(arch);
        Ok(manifest)
    }

    /// A manifest of a configuration and layers: an image, or anything else that says so by its
    /// configuration's type.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn manifest(
        &self,
        kind: Option<&str>,
        config: &Descriptor,
        layers: &[Descriptor],
        annotations: &Value,
    ) -> anyhow::Result<Descriptor> {
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.json(),
            "layers": layers.iter().map(Descriptor::json).collect::<Vec<_>>(),
            "annotations": annotations,
        });
        if let Some(kind) = kind {
            manifest["artifactType"] = json!(kind);
        }
        self.blob(MANIFEST, &json::bytes(&manifest))
    }

    /// An index over an image for each architecture: what tags and digests in manifests name.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn index(&self, image: &Image<'_>, images: &[Descriptor]) -> anyhow::Result<Descriptor> {
        let index = json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": images.iter().map(Descriptor::json).collect::<Vec<_>>(),
            "annotations": image.annotations(),
        });
        self.blob(INDEX, &json::bytes(&index))
    }

    /// Ends the layout: this is what it holds, under this tag.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(self, tag: &str, top: &Descriptor) -> anyhow::Result<()> {
        let mut entry = top.json();
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
        Ok(fs::write(
            self.folder.join("index.json"),
            json::bytes(&index),
        )?)
    }
}

impl Descriptor {
    fn json(&self) -> Value {
        let mut json =
            json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.size });
        if let Some(arch) = self.platform {
            json["platform"] = json!({ "architecture": arch.to_string(), "os": "linux" });
        }
        json
    }
}

impl Image<'_> {
    fn annotations(&self) -> Value {
        let own = [
            ("org.opencontainers.image.title", self.title.to_owned()),
            ("org.opencontainers.image.created", self.created()),
            ("org.opencontainers.image.licenses", "Apache-2.0".to_owned()),
        ];
        let own = own.map(|(key, value)| (key.to_owned(), value));
        let all = own.into_iter().chain(self.labels.iter().cloned());
        all.map(|(key, value)| (key, Value::String(value)))
            .collect()
    }

    fn created(&self) -> String {
        super::date(self.time)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::scratch;
    use super::*;

    fn packed(name: &str) -> anyhow::Result<(PathBuf, String)> {
        let folder = scratch(name)?;
        let layout = Layout::create(&folder)?;
        let image = Image {
            title: "tool",
            entrypoint: Some("/tool".to_owned()),
            labels: vec![(
                "org.opencontainers.image.version".to_owned(),
                "1.2.3".to_owned(),
            )],
            time: 1_700_000_000,
        };
        let files = [File::program("tool", b"program".to_vec())];
        let images: Vec<Descriptor> = Arch::ALL
            .into_iter()
            .map(|arch| layout.image(&image, arch, &files))
            .collect::<anyhow::Result<_>>()?;
        let index = layout.index(&image, &images)?;
        layout.finish("1.2.3", &index)?;
        Ok((folder, index.digest))
    }

    fn blob(folder: &Path, descriptor: &Value) -> anyhow::Result<Vec<u8>> {
        let digest = descriptor["digest"].as_str().context("a digest")?;
        let digest = digest.strip_prefix("sha256:").context("of SHA-256")?;
        let bytes = fs::read(folder.join("blobs/sha256").join(digest))?;
        assert_eq!(archive::sha256(&bytes), digest);
        assert_eq!(descriptor["size"], bytes.len());
        Ok(bytes)
    }

    #[test]
    fn a_layout_leads_from_its_tag_to_the_program_of_each_architecture() -> anyhow::Result<()> {
        let (folder, digest) = packed("layout")?;
        let top: Value = serde_json::from_slice(&fs::read(folder.join("index.json"))?)?;
        let entry = &top["manifests"][0];
        assert_eq!(entry["digest"], *digest);
        assert_eq!(
            entry["annotations"]["org.opencontainers.image.ref.name"],
            "1.2.3"
        );
        let index: Value = serde_json::from_slice(&blob(&folder, entry)?)?;
        for (place, arch) in ["amd64", "arm64"].iter().enumerate() {
            let image = &index["manifests"][place];
            assert_eq!(image["platform"]["architecture"], *arch);
            let manifest: Value = serde_json::from_slice(&blob(&folder, image)?)?;
            let config: Value = serde_json::from_slice(&blob(&folder, &manifest["config"])?)?;
            assert_eq!(config["architecture"], *arch);
            assert_eq!(config["config"]["User"], "65532:65532");
            assert_eq!(config["config"]["Entrypoint"], json!(["/tool"]));
            assert_eq!(config["created"], "2023-11-14T22:13:20Z");
            blob(&folder, &manifest["layers"][0])?;
        }
        Ok(())
    }

    #[test]
    fn packing_twice_gives_the_same_digest() -> anyhow::Result<()> {
        assert_eq!(packed("once")?.1, packed("twice")?.1);
        Ok(())
    }
}
