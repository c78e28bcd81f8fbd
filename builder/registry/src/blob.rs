//! Blobs: streamed from and to files, never held in memory.

use std::fs::Permissions;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use futures_util::{StreamExt as _, stream};
use oci_client::errors::OciDistributionError;
use sha2::{Digest as _, Sha256};
use tempfile::{Builder, NamedTempFile};

use crate::connection::Connection;
use crate::manifest::Descriptor;
use crate::{Digest, Error};

/// How much is read from a file at once, in bytes.
const CHUNK: usize = 1 << 20;

/// A file in pieces.
pub(crate) struct Chunks<R>(pub(crate) R);

impl<R: Read> Iterator for Chunks<R> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<io::Result<Vec<u8>>> {
        let mut chunk = Vec::new();
        match self.0.by_ref().take(CHUNK as u64).read_to_end(&mut chunk) {
            Ok(0) => None,
            Ok(_) => Some(Ok(chunk)),
            Err(e) => Some(Err(e)),
        }
    }
}

/// Digest and length of what a reader gives.
pub(crate) fn digest(reader: impl Read) -> io::Result<(Digest, u64)> {
    let (mut hasher, mut size) = (Sha256::new(), 0);
    for chunk in Chunks(reader) {
        let chunk = chunk?;
        hasher.update(&chunk);
        size += chunk.len() as u64;
    }
    Ok((Digest::finish(hasher), size))
}

/// A file that goes away unless it is given its name. Otherwise as any file of the user's, whose umask counts.
pub(crate) fn new_file(dir: &Path) -> io::Result<NamedTempFile> {
    Builder::new().permissions(Permissions::from_mode(0o666)).prefix(".new-").tempfile_in(dir)
}

impl Connection {
    /// Writes a blob to a [`new_file`] in `dir`.
    pub(crate) async fn pull_blob_file(&self, blob: &Descriptor, dir: &Path) -> Result<NamedTempFile, Error> {
        let mut file = new_file(dir).map_err(Error::file(dir))?;
        let path = file.path().to_owned();
        self.pull_blob(blob, file.as_file_mut(), &path).await?;
        Ok(file)
    }

    /// Writes a blob to `out`, which `path` names. What came before an error must not be used.
    pub(crate) async fn pull_blob(
        &self,
        blob: &Descriptor,
        out: &mut impl Write,
        path: &Path,
    ) -> Result<(), Error> {
        let what = format!("{} of {}", blob.digest, self.at);
        let mut left = blob.size;
        let transfer = async {
            let mut stream = self.client().pull_blob_stream(&self.wire(), blob.digest.as_str()).await?;
            // It ends with an error where the digest is another.
            while let Some(chunk) = stream.next().await {
                let chunk = chunk?;
                match left.checked_sub(chunk.len() as u64) {
                    Some(less) => left = less,
                    None => {
                        return Ok(Err(Error::broken(
                            &what,
                            format!("it is longer than {} bytes", blob.size),
                        )));
                    }
                }
                if let Err(e) = out.write_all(&chunk) {
                    return Ok(Err(Error::file(path)(e)));
                }
            }
            Ok(Ok(()))
        };
        self.ask(&what, blob.size, transfer).await??;
        if left > 0 {
            return Err(Error::broken(&what, format!("it is shorter than {} bytes", blob.size)));
        }
        out.flush().map_err(Error::file(path))
    }

    /// Sends a blob, unless it is there.
    pub(crate) async fn push_blob(
        &self,
        blob: &Descriptor,
        from: impl Read + Send + 'static,
    ) -> Result<(), Error> {
        let what = self.at.to_string();
        let (wire, digest) = (self.wire(), blob.digest.as_str());
        if self.ask(&what, 0, self.client().blob_exists(&wire, digest)).await? {
            return Ok(());
        }
        let chunks = Chunks(from).map(|chunk| chunk.map(Into::into).map_err(OciDistributionError::from));
        let request = self.client().push_blob_stream(&wire, stream::iter(chunks), digest, Some(blob.size));
        self.ask(&what, blob.size, request).await?;
        Ok(())
    }
}
