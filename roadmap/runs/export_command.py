"""``roadmap export``: runs in one file."""

from roadmap.cli.arguments import Parser, say_skipped


def main(arguments: list[str]) -> int:
    parser = Parser(prog="roadmap export", description="runs in one file, which every command reads like a folder")
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="folders, searched recursively; wandb://ENTITY/PROJECT")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="NAME.runs.jsonl.gz")
    parser.add_argument("--where", metavar="EXPR", help="only runs for which it holds, as of `roadmap compare`")
    parser.add_argument("--force", action="store_true", help="overwrite FILE")
    options = parser.parse_intermixed_args(arguments)
    from roadmap.runs.export import export

    say_skipped(export(options.runs, options.output, options.where, force=options.force))
    print(f"exported: {options.output}")
    return 0
