"""Files as values: on this machine, in object stores, on servers; redun's identities. Knows no log."""

from eventstore.file import stores as _stores  # noqa: F401 - it registers the protocols
from eventstore.file.copying import copy_by_path
from eventstore.file.dataset import ShardedDataset
from eventstore.file.file import ContentFile, File, IFile
from eventstore.file.folder import ContentDir, ContentFileSet, Dir, FileSet, IDir, IFileSet
from eventstore.file.local import LocalFiles
from eventstore.file.places import FileSystem, Found, place_of, protocol_of, register_protocol
from eventstore.file.remote import RemoteFiles
from eventstore.file.shell import render_copy
from eventstore.file.staging import (
    ContentStagingDir,
    ContentStagingFile,
    IStagingDir,
    IStagingFile,
    Staging,
    StagingDir,
    StagingFile,
)
from eventstore.file.stores import (
    AzureFiles,
    FtpFiles,
    GoogleFiles,
    HttpFiles,
    MemoryFiles,
    S3Files,
    SftpFiles,
)

__all__ = [
    "AzureFiles",
    "ContentDir",
    "ContentFile",
    "ContentFileSet",
    "ContentStagingDir",
    "ContentStagingFile",
    "Dir",
    "File",
    "FileSet",
    "FileSystem",
    "Found",
    "FtpFiles",
    "GoogleFiles",
    "HttpFiles",
    "IDir",
    "IFile",
    "IFileSet",
    "IStagingDir",
    "IStagingFile",
    "LocalFiles",
    "MemoryFiles",
    "RemoteFiles",
    "S3Files",
    "SftpFiles",
    "ShardedDataset",
    "Staging",
    "StagingDir",
    "StagingFile",
    "copy_by_path",
    "place_of",
    "protocol_of",
    "register_protocol",
    "render_copy",
]
