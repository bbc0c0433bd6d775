"""What the command line says of itself: helps, examples, and what was meant by a mistyped word."""

import argparse
import shlex
from pathlib import Path

import pytest

from fedclip_edge.arguments import path_argument
from fedclip_edge.cli.main import build_parser as edge_parser
from fedclip_export.cli import build_parser as export_parser
from fedclip_plugin import __version__
from fedclip_plugin.cli.command_table import COMMANDS, GROUPS, overview
from fedclip_plugin.cli.main import build_parser, main


@pytest.mark.parametrize("parser", [build_parser(), export_parser(), edge_parser()], ids=lambda parser: parser.prog)
def test_every_argument_of_every_command_has_a_help_text(parser):
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    assert commands.choices
    silent = [(name, part.dest) for name, of in commands.choices.items() for part in of._actions if not part.help]
    assert silent == []


def test_version_and_help_name_every_command(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert __version__ in capsys.readouterr().out
    text = build_parser([]).format_help()
    assert all(f"    {name} " in text for name in COMMANDS)
    assert [line.strip(":") for line in text.splitlines() if line.strip(":") in GROUPS] == list(GROUPS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_an_example_that_it_takes(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    shown = capsys.readouterr().out.rsplit("example:\n", 1)[1].strip()
    words = shlex.split(shown.split("fedclip ", 1)[1].split(" > ")[0].split(")")[0])
    found = build_parser([name]).parse_args(words)
    assert found.command == name


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["lauch", "x"], "launch"),
        (["launch", "x", "--resumed"], "--resume"),
        (["launch", "x", "--hostfle=hosts"], "--hostfile"),
        (["export", "bundel"], "bundle"),
        (["export", "bundle", "--adapter", "a", "--out", "b", "--precission", "int8"], "--precision"),
        (["study", "x", "--table", "markdwon"], "markdown"),
    ],
)
def test_a_mistyped_word_or_option_gets_the_one_that_was_meant(capsys, words, meant):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert capsys.readouterr().err.endswith(f" (did you mean {meant}?)\n")


def test_a_word_like_none_that_is_known_gets_no_guess(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["ls", "--zzzzzz"])
    assert capsys.readouterr().err.endswith("fedclip ls: error: unrecognized arguments: --zzzzzz\n")


def test_without_a_command_all_of_them_are_told(capsys):
    assert main([]) == 2
    assert overview() in capsys.readouterr().err


@pytest.mark.parametrize("name", ["keygen", "bundle", "update"])
def test_the_exporters_own_commands_show_examples_that_they_take(name, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["export", name, "--help"])
    words = shlex.split(capsys.readouterr().out.rsplit("example: fedclip ", 1)[1])
    assert build_parser(["export"]).parse_args(words).export


def _arguments(parser):
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _arguments(command)


@pytest.mark.parametrize("parser", [build_parser(), export_parser(), edge_parser()], ids=lambda parser: parser.prog)
def test_no_command_takes_an_empty_path_for_the_folder_it_works_in(parser):
    takers = [action.dest for action in _arguments(parser) if action.type is path_argument]
    assert takers and [action.dest for action in _arguments(parser) if action.type is Path] == []


@pytest.mark.parametrize(
    ("words", "argument"),
    [
        (["cp", "miniature/clip_tiny_fedclip", ""], "FILE"),
        (["init", ""], "FOLDER_OR_LIST"),
        (["evaluate", "adapter", ""], "FOLDER_OR_LIST"),
        (["launch", "miniature/clip_tiny_fedclip", "--run", ""], "--run"),
        (["report", ""], "RUN"),
        (["export", "keygen", ""], "FILE"),
    ],
)
def test_an_empty_path_is_refused(capsys, words, argument):
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert f"error: argument {argument}: is empty; give a path ('.' is the folder" in capsys.readouterr().err
