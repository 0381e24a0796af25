"""`gpupin lsp` through a client library of others: pygls, which counts places and speaks the protocol by itself.

Run by `cargo xtask ci editor`, which sets `GPUPIN` to the program.
"""

import asyncio
import json
import os
import shutil
import subprocess
import tempfile
import unittest
from collections import Counter
from pathlib import Path

from lsprotocol import types as lsp
from pygls.lsp.client import LanguageClient
from pygls.uris import to_fs_path
from pygls.workspace import PositionCodec, TextDocument

GPUPIN = os.environ["GPUPIN"]
EXAMPLE = Path(__file__).parents[2] / "examples/assistant"

CAPABILITIES = lsp.ClientCapabilities(
    workspace=lsp.WorkspaceClientCapabilities(
        workspace_edit=lsp.WorkspaceEditClientCapabilities(document_changes=True),
    ),
    text_document=lsp.TextDocumentClientCapabilities(
        publish_diagnostics=lsp.PublishDiagnosticsClientCapabilities(related_information=True),
        hover=lsp.HoverClientCapabilities(content_format=[lsp.MarkupKind.Markdown]),
        code_action=lsp.CodeActionClientCapabilities(
            is_preferred_support=True,
            code_action_literal_support=lsp.ClientCodeActionLiteralOptions(
                code_action_kind=lsp.ClientCodeActionKindOptions(value_set=list(lsp.CodeActionKind)),
            ),
        ),
    ),
)

QUICK = [lsp.CodeActionKind.QuickFix]
FIX_ALL = [lsp.CodeActionKind.SourceFixAll]


class Editor:
    """The client, its open documents, and what it was told."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.documents: dict[str, TextDocument] = {}
        self.published: dict[str, list[lsp.Diagnostic]] = {}
        self.client = LanguageClient("test", "1")

        @self.client.feature(lsp.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
        def _(params: lsp.PublishDiagnosticsParams):
            self.published[params.uri] = list(params.diagnostics)

    async def start(self, options=None, encodings=(lsp.PositionEncodingKind.Utf16,)):
        await self.client.start_io(GPUPIN, "lsp", cwd="/")
        capabilities = lsp.ClientCapabilities(
            workspace=CAPABILITIES.workspace,
            text_document=CAPABILITIES.text_document,
            general=lsp.GeneralClientCapabilities(position_encodings=list(encodings)),
        )
        folder = lsp.WorkspaceFolder(uri=self.folder.as_uri(), name="folder")
        result = await self.client.initialize_async(
            lsp.InitializeParams(
                capabilities=capabilities,
                workspace_folders=[folder],
                initialization_options=options,
            )
        )
        self.codec = PositionCodec(result.capabilities.position_encoding)
        self.client.initialized(lsp.InitializedParams())

    async def stop(self) -> int:
        await self.client.shutdown_async(None)
        self.client.exit(None)
        await self.client.stop()
        return self.client._server.returncode

    def uri(self, name: str) -> str:
        return (self.folder / name).as_uri()

    def open(self, name: str, text: str | None = None) -> TextDocument:
        uri = self.uri(name)
        if text is None:
            text = (self.folder / name).read_bytes().decode()
        document = TextDocument(uri, text, version=1, position_codec=self.codec)
        self.documents[uri] = document
        item = lsp.TextDocumentItem(uri=uri, language_id="x", version=1, text=text)
        self.client.text_document_did_open(lsp.DidOpenTextDocumentParams(text_document=item))
        return document

    def close(self, name: str):
        identifier = lsp.TextDocumentIdentifier(self.uri(name))
        del self.documents[identifier.uri]
        self.client.text_document_did_close(lsp.DidCloseTextDocumentParams(identifier))

    def change(self, uri: str, changes: list):
        document = self.documents[uri]
        for change in changes:
            document.apply_change(change)
        document.version += 1
        identifier = lsp.VersionedTextDocumentIdentifier(version=document.version, uri=uri)
        self.client.text_document_did_change(
            lsp.DidChangeTextDocumentParams(text_document=identifier, content_changes=changes)
        )

    def apply(self, edit: lsp.WorkspaceEdit):
        for of_file in edit.document_changes:
            uri = of_file.text_document.uri
            if uri not in self.documents:
                self.open(str(Path(to_fs_path(uri)).relative_to(self.folder)))
            else:
                assert of_file.text_document.version == self.documents[uri].version
            # From the end, so that no edit moves another.
            changes = [
                lsp.TextDocumentContentChangePartial(range=it.range, text=it.new_text)
                for it in reversed(of_file.edits)
            ]
            self.change(uri, changes)

    async def settled(self) -> dict[str, list[lsp.Diagnostic]]:
        """What is shown once everything that was said is worked off: an answer comes behind it."""
        await self.hover("none", lsp.Position(0, 0))
        return {uri: shown for uri, shown in self.published.items() if shown}

    async def shown(self) -> Counter:
        diagnostics = await self.settled()
        return Counter((uri, it.code, it.message) for uri, all in diagnostics.items() for it in all)

    async def hover(self, name: str, position: lsp.Position):
        identifier = lsp.TextDocumentIdentifier(self.uri(name))
        return await self.client.text_document_hover_async(lsp.HoverParams(identifier, position))

    async def actions(self, uri: str, place: lsp.Range, only: list[str]) -> list[lsp.CodeAction]:
        params = lsp.CodeActionParams(
            lsp.TextDocumentIdentifier(uri), place, lsp.CodeActionContext(diagnostics=[], only=only)
        )
        return list(await self.client.text_document_code_action_async(params) or [])


def scan(folder: Path) -> list:
    """Where `gpupin scan` finds what: path, line, column, end and code."""
    command = [GPUPIN, "scan", "--output-format", "json"]
    output = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    findings = json.loads(output.stdout)["findings"]
    keys = ["path", "line", "column", "end_line", "end_column", "code"]
    return sorted(tuple(it[key] for key in keys) for it in findings)


class Example(unittest.IsolatedAsyncioTestCase):
    """The voice assistant that picks its GPU badly."""

    async def asyncSetUp(self):
        self.directory = tempfile.TemporaryDirectory()
        # A name that a URI must escape.
        self.folder = Path(self.directory.name) / "ein Gerät 😀"
        shutil.copytree(EXAMPLE, self.folder)
        self.editor = Editor(self.folder)

    async def asyncTearDown(self):
        self.assertEqual(await self.editor.stop(), 0)
        self.directory.cleanup()

    async def check_equals_scan(self):
        shown = []
        for uri, diagnostics in (await self.editor.settled()).items():
            path = Path(to_fs_path(uri))
            lines = path.read_bytes().decode().splitlines(keepends=True)
            for it in diagnostics:
                # Characters as Python counts them.
                place = self.editor.codec.range_from_client_units(lines, it.range)
                name = path.relative_to(self.folder).as_posix()
                start, end = (place.start, place.end)
                place = (start.line + 1, start.character + 1, end.line + 1, end.character + 1)
                shown.append((name, *place, it.code))
        self.assertEqual(sorted(shown), scan(self.folder))
        self.assertGreater(len(shown), 30)

    async def test_the_diagnostics_are_what_a_scan_finds(self):
        await self.editor.start()
        await self.check_equals_scan()

    async def test_utf_8_finds_the_same_places(self):
        await self.editor.start(
            encodings=[lsp.PositionEncodingKind.Utf16, lsp.PositionEncodingKind.Utf8]
        )
        self.assertEqual(self.editor.codec.encoding, lsp.PositionEncodingKind.Utf8)
        await self.check_equals_scan()

    async def test_an_open_file_is_shown_as_it_is_on_disk(self):
        await self.editor.start()
        before = await self.editor.shown()
        for uri in list(self.editor.published):
            self.editor.open(Path(to_fs_path(uri)).relative_to(self.folder).as_posix())
        self.assertEqual(await self.editor.shown(), before)
        await self.check_equals_scan()

    async def test_every_action_makes_its_diagnostic_vanish(self):
        await self.editor.start()
        before = await self.editor.shown()
        fixes = suppressions = 0
        for uri, diagnostics in (await self.editor.settled()).items():
            name = Path(to_fs_path(uri)).relative_to(self.folder).as_posix()
            original = self.editor.open(name).source
            for diagnostic in diagnostics:
                offered = len(await self.editor.actions(uri, diagnostic.range, QUICK))
                for number in range(offered):
                    # Asked again, since an edit is for one version of a document.
                    actions = await self.editor.actions(uri, diagnostic.range, QUICK)
                    action = actions[number]
                    (about,) = action.diagnostics
                    self.editor.apply(action.edit)
                    after = await self.editor.shown()
                    key = (uri, about.code, about.message)
                    with self.subTest(name=name, title=action.title, code=about.code):
                        self.assertEqual(after[key], before[key] - 1)
                    if action.title.startswith("Suppress"):
                        suppressions += 1
                        self.assertNotIn("GP001", [it[1] for it in after])
                        self.assertNotIn("GP002", [it[1] for it in after])
                    else:
                        fixes += 1
                    whole = lsp.TextDocumentContentChangeWholeDocument(text=original)
                    self.editor.change(uri, [whole])
                    # A fix may edit other files, which become what they are on disk.
                    for other in set(self.editor.documents) - {uri}:
                        self.editor.close(Path(to_fs_path(other)).relative_to(self.folder).as_posix())
            self.editor.close(name)
        self.assertGreaterEqual(fixes, 18)
        self.assertGreaterEqual(suppressions, 30)
        self.assertEqual(await self.editor.shown(), before)

    async def test_safe_fixes_are_applied_at_once(self):
        await self.editor.start()
        document = self.editor.open("compose.yaml")
        start = lsp.Range(lsp.Position(0, 0), lsp.Position(0, 0))
        # One fix makes another safe: it takes as many times as `gpupin fix` takes rounds.
        for _ in range(4):
            actions = await self.editor.actions(document.uri, start, FIX_ALL)
            if not actions:
                break
            (action,) = actions
            self.assertEqual(action.kind, "source.fixAll.gpupin")
            self.editor.apply(action.edit)
        self.assertEqual(actions, [])
        self.assertIn("CUDA_VISIBLE_DEVICES=0", document.source)
        codes = [it.code for it in (await self.editor.settled()).get(document.uri, [])]
        self.assertNotIn("GP502", codes)

    async def test_an_edit_changes_the_diagnostics_of_another_file(self):
        await self.editor.start()
        other = self.editor.uri("assistant/stt.py")
        codes = lambda shown: [it.code for it in shown.get(other, [])]
        self.assertIn("GP201", codes(await self.editor.settled()))
        document = self.editor.open("assistant/settings.py")
        line = next(i for i, it in enumerate(document.lines) if "gpu_device_index: int = 1" in it)
        end = len(document.lines[line].rstrip())
        place = lsp.Range(lsp.Position(line, end - 1), lsp.Position(line, end))
        edit = lsp.TextDocumentContentChangePartial(range=place, text="0")
        self.editor.change(document.uri, [edit])
        self.assertNotIn("GP201", codes(await self.editor.settled()))
        self.editor.close("assistant/settings.py")
        self.assertIn("GP201", codes(await self.editor.settled()))

    async def test_a_character_of_two_units_moves_what_follows(self):
        await self.editor.start()
        text = 'import torch\nx = "😀é"; torch.zeros(1, device="cuda:1")\n'
        (self.folder / "new.py").write_text(text)
        document = self.editor.open("new.py")
        found = (await self.editor.settled())[document.uri]
        (ordinal,) = [it for it in found if it.code == "GP201"]
        self.assertEqual(ordinal.range.start, lsp.Position(1, text.split("\n")[1].index('"cuda') + 1))
        (start, end) = (document.offset_at_position(it) for it in (ordinal.range.start, ordinal.range.end))
        self.assertEqual(document.source[start:end], '"cuda:1"')
        hover = await self.editor.hover("new.py", ordinal.range.start)
        self.assertIn("# GP201 ordinal-outside-pin", hover.contents.value)


if __name__ == "__main__":
    unittest.main()
