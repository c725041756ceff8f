#!/bin/sh
# proto/shoal.proto as it is published, fed to Google's own compiler, must make the golden frames from their text: the
# rewriting that protoc-c gets changes nothing on the wire, and other languages see what the C code sends.
set -eu
cd "$(dirname "$0")/../../.."
for text in tests/fixtures/frames/*.txt; do
    frame=${text%.txt}.bin
    protoc --proto_path=proto --encode=shoal.Envelope proto/shoal.proto <"$text" | cmp - "$frame"
done
for text in tests/fixtures/group_frames/*.txt; do
    frame=${text%.txt}.bin
    protoc --proto_path=proto --encode=shoal_group.Frame proto/group.proto <"$text" | cmp - "$frame"
done
