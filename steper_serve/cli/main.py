"""The command group, and how an error of ours ends: one line that says what to do."""

import sys

import click

import steper_serve
from steper_serve.cli import logs
from steper_serve.cli.ask import ask
from steper_serve.cli.bench import bench
from steper_serve.cli.bench_attack import attack
from steper_serve.cli.bench_load import load, replay
from steper_serve.cli.bench_page import page
from steper_serve.cli.bench_paper import paper
from steper_serve.cli.bench_peers import peer, peers
from steper_serve.cli.bench_retrieval import retrieval
from steper_serve.cli.bench_soak import soak
from steper_serve.cli.distill import distill
from steper_serve.cli.doctor import doctor
from steper_serve.cli.fictional import fictional
from steper_serve.cli.index import index
from steper_serve.cli.key import key
from steper_serve.cli.serve import serve
from steper_serve.cli.ui import ui
from steper_serve.errors import SteperError


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except SteperError as error:
            logs.tell_failure(error)
            sys.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(steper_serve.__version__, prog_name="steper-serve")
def main() -> None:
    """Multi-hop question answering with a small student model, step by step."""


for command in (attack, load, page, paper, peer, peers, replay, retrieval, soak):
    bench.add_command(command)
for command in (serve, ui, ask, key, index, fictional, distill, bench, doctor):
    main.add_command(command)
