"""The command line: parse, call one function, print, and map errors to exit codes.

Nothing heavy is imported here: `forecast --help` and usage errors cost no torch, lightning, mlflow or pandas, and what
only some commands need is imported where they need it.
"""

import io
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NoReturn

import typer

from .console import Progress, echo, log, print_json, show_model, tell_read, width
from .errors import ForecastError, UsageError

app = typer.Typer(
    name="forecast",
    help="Forecast time series and graphs: from a file to a tracked, registered model and its batch forecasts.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="Show a configuration, or its schema.")
app.add_typer(config_app, name="config")
datasets_app = typer.Typer(help="List the catalogued data sets, or make one of graphs.")
app.add_typer(datasets_app, name="datasets", invoke_without_command=True)

Data = Annotated[
    str | None,
    typer.Argument(help="CSV, Parquet (file, folder, glob), - for standard input, or a catalogued name."),
]
Model = Annotated[str | None, typer.Option("--model", help="Model: see `forecast models`.")]
ConfigFile = Annotated[str | None, typer.Option("--config", help="YAML file, e.g. configs/itransformer/etth1.yaml.")]
Settings = Annotated[list[str] | None, typer.Option("--set", help="section.key=value; may be repeated.")]
Horizon = Annotated[int | None, typer.Option(help="Steps to forecast.")]
Lookback = Annotated[int | None, typer.Option(help="Steps that the model sees.")]
Target = Annotated[
    str | None, typer.Option(help="Columns to forecast, comma separated; default y, target or value, else all.")
]
Variates = Annotated[str | None, typer.Option(help="Columns to use at all, comma separated; default all numeric.")]
KnownFuture = Annotated[
    str | None,
    typer.Option("--known-future", help="Covariates known beyond the last value, comma separated: holidays, prices."),
]
Static = Annotated[str | None, typer.Option("--static", help="Table with one row of features a series.")]
Edges = Annotated[
    str | None, typer.Option("--edges", help="Graph of the variates: table of src, dst and perhaps weight.")
]
IdCol = Annotated[str | None, typer.Option(help="Column that tells series apart.")]
TimeCol = Annotated[str | None, typer.Option(help="Column of the time, or several that tell it: Date,Time.")]
Freq = Annotated[str | None, typer.Option(help="Step as pandas writes it (h, 15min, D, MS); default inferred.")]
Resample = Annotated[str | None, typer.Option(help="Take the mean of every step, e.g. of every h or D.")]
Dates = Annotated[str | None, typer.Option(help="day-first or month-first, where the dates do not tell.")]
DecimalMark = Annotated[
    str | None, typer.Option("--decimal", help="point or comma, where numbers such as 1,234 do not tell.")
]
MissingCodes = Annotated[
    str | None, typer.Option("--missing-codes", help="Numbers that stand for a missing value, e.g. -200,-9999.")
]
Kind = Annotated[str | None, typer.Option("--kind", help="series, events or graphs; found if not given.")]
Task = Annotated[
    str | None,
    typer.Option("--task", help="Of events: link, who meets whom next, or node, the state of their sources."),
]
Strict = Annotated[bool | None, typer.Option("--strict", help="Refuse data that need a repair.")]
Levels = Annotated[str | None, typer.Option(help="Prediction intervals in per cent, e.g. 80,95.")]
TimeLimit = Annotated[str | None, typer.Option(help="Stop training after e.g. 90s, 10m, 2h; scoring comes after.")]
Seed = Annotated[int | None, typer.Option(help="Seed of weights, batches and dropout.")]
Precision = Annotated[str | None, typer.Option(help="fp32 or bf16.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:1.")]
Experiment = Annotated[str | None, typer.Option(help="MLflow experiment.")]
Resume = Annotated[str | None, typer.Option(help="Continue this run after a kill.")]
Register = Annotated[str | None, typer.Option(help="Gate the model and register it under this name.")]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Register what the gate refuses; a better champion still stays. Recorded on the version."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from . import __version__

        typer.echo(f"forecast {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def fit(
    data: Data = None,
    model: Model = None,
    config: ConfigFile = None,
    horizon: Horizon = None,
    lookback: Lookback = None,
    target: Target = None,
    variates: Variates = None,
    known_future: KnownFuture = None,
    static: Static = None,
    edges: Edges = None,
    id_col: IdCol = None,
    time_col: TimeCol = None,
    freq: Freq = None,
    resample: Resample = None,
    dates: Dates = None,
    kind: Kind = None,
    task: Task = None,
    decimal: DecimalMark = None,
    missing_codes: MissingCodes = None,
    strict: Strict = None,
    levels: Levels = None,
    time_limit: TimeLimit = None,
    seed: Seed = None,
    precision: Precision = None,
    device: Device = None,
    experiment: Experiment = None,
    settings: Settings = None,
    resume: Resume = None,
    register: Register = None,
    force: Force = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train, score beside baselines, track."""
    from .fitting import fit as run_fit

    given = _given(
        horizon=horizon, lookback=lookback, target=target, variates=variates, id_col=id_col, time_col=time_col,
        freq=freq, resample=resample, dates=dates, decimal=decimal, missing_codes=missing_codes,
        known_future=known_future, static=static, edges=edges,
        strict=strict, levels=levels, time_limit=_seconds(time_limit), seed=seed, precision=precision, device=device,
        experiment=experiment, kind=kind, task=task,
    )  # fmt: skip
    if resume is not None and (given or model or config or settings):
        raise UsageError(
            f"--resume {resume} continues with the settings of that run; no others can be given.",
            f"Type forecast fit --resume {resume}, or start a new fit without it.",
        )
    progress = None if quiet or as_json else Progress()
    run = run_fit(
        data,
        model,
        config=config,
        settings=settings or (),
        resume=resume,
        register=register,
        force=force,
        progress=progress,
        **given,
    )
    if as_json:
        print_json(run.document)
    elif not quiet and run.registered:
        echo(_sentence(run.document["registered"]))


@app.command()
def register(
    run: Annotated[str | None, typer.Argument(help="Run id; default the best finished fit.")] = None,
    name: Annotated[str, typer.Option("--name", help="Name in the registry.")] = ...,  # type: ignore[assignment]
    force: Force = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Gate a run and register its model."""
    from dataclasses import asdict

    from .registration import register as run_register

    version = run_register(run, name=name, force=force)
    if as_json:
        print_json({"registered": asdict(version)})
    else:
        echo(_sentence(asdict(version)))
        echo(f"from run {version.run}")


@app.command()
def predict(
    model: Annotated[str, typer.Argument(help="models:/NAME@champion, models:/NAME/3, runs:/… or a model folder.")],
    data: Annotated[
        str, typer.Argument(help="The recent past of series, or queries of links: CSV, Parquet, - for standard input.")
    ],
    output: Annotated[str, typer.Option("-o", "--output", help="Forecast file: .csv or .parquet.")],
    horizon: Horizon = None,
    levels: Levels = None,
    wide: Annotated[bool, typer.Option("--wide", help="One column a variate.")] = False,
    future: Annotated[
        str | None, typer.Option("--future", help="Table of known-future covariates after the end of the data.")
    ] = None,
    static: Static = None,
    history: Annotated[
        str | None, typer.Option("--history", help="Table of the events since the fit, for a model of links.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option("--top-k", help="Rank the likeliest destinations of each query: source and time.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Forecast the real future of a file, or score queries of links."""
    from .data import table
    from .prediction import predict as run_predict

    table.require_writable(output)
    _refuse_overwriting(data, output)
    read: dict[str, Any] = {}
    forecast = run_predict(
        model,
        _existing(data),
        horizon=horizon,
        levels=_levels(levels),
        wide=wide,
        future=_existing(future),
        static=_existing(static),
        history=history,
        top_k=top_k,
        told=read.update,
    )
    table.write(forecast, output)
    if read and not quiet and not as_json:
        tell_read(read)
    facts = {"rows": len(forecast), "output": output}
    if "yhat" in forecast.columns or wide:
        time = forecast["ds"] if "ds" in forecast.columns else forecast.to_series(0)
        first, last = read.get("span") or (time.min(), time.max())  # older models do not tell it
        facts |= {"first": str(first), "last": str(last)}
    if as_json:
        print_json(
            {"model": model, **facts, **{key: read[key] for key in ("repairs", "warnings", "unseen") if key in read}}
        )
    elif not quiet:
        span = f", {facts['first']} to {facts['last']}" if "first" in facts else ""
        echo(f"{output}: {len(forecast):,} rows{span}")


@app.command()
def explain(
    model: Annotated[str, typer.Argument(help="models:/NAME@champion, models:/NAME/3, runs:/… or a model folder.")],
    data: Annotated[str, typer.Argument(help="Data with known answers: CSV, Parquet, - or a catalogued name.")],
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="Page (.html) or table (.csv, .parquet) of every number.")
    ] = None,
    windows: Annotated[int | None, typer.Option(help="Windows to use; default 200, fewer with many variates.")] = None,
    graphs: Annotated[int | None, typer.Option(help="Graphs to use; default 200.")] = None,
    ranking: Annotated[
        str | None, typer.Option(help="How nodes rank: robust (default), or reference, as the authors' code does it.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the exchanges between windows; default 0.")] = None,
    static: Static = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show which inputs, heads and nodes the answers rest on, and where attention goes."""
    if output is not None:
        from .data import table

        table.require_writable(output, ".html")
        _refuse_overwriting(data, output)
    from .explanation import explain as run_explain

    found = run_explain(
        model,
        _existing(data),
        windows=windows,
        graphs=graphs,
        ranking=ranking,  # type: ignore[arg-type]
        seed=seed,
        static=_existing(static),
        told=None if quiet or as_json else lambda text: log(f"{text} …"),
    )
    if output is not None:
        found.save(output)
    if as_json:
        print_json({**found.document(), "output": output})
    elif not quiet:
        echo(found.text())
        if output is not None:
            echo(f"written to {output}")


@app.command()
def audit(
    model: Annotated[str, typer.Argument(help="models:/NAME@champion, models:/NAME/3, runs:/… or a model folder.")],
    data: Annotated[str, typer.Argument(help="Data with known answers: CSV, Parquet, - or a catalogued name.")],
    origins: Annotated[int, typer.Option(help="Days behind which everything is changed.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the days and of what is put in place of the future.")] = 0,
    static: Static = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Show that nothing after its origin reaches a forecast; exit code 4 for a leak."""
    from .auditing import audit as run_audit

    found = run_audit(
        model,
        _existing(data),
        origins=origins,
        seed=seed,
        static=_existing(static),
        told=None if quiet or as_json else lambda text: log(f"{text} …"),
    )
    if as_json:
        print_json(found.document())
    elif not quiet:
        echo(found.text())
    if found.error is not None:
        if not as_json:
            log(f"{found.error.message}\n{found.error.hint}")
        raise typer.Exit(found.error.exit_code)


@app.command()
def backtest(
    data: Data = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Model to fit, or a stored one: models:/NAME@champion, a folder.")
    ] = None,
    config: ConfigFile = None,
    windows: Annotated[int, typer.Option(help="Cutoffs to forecast from.")] = 5,
    step: Annotated[int | None, typer.Option(help="Rows between two cutoffs; default the horizon.")] = None,
    refit: Annotated[bool, typer.Option("--refit", help="Fit anew at each cutoff, not only at the first.")] = False,
    horizon: Horizon = None,
    lookback: Lookback = None,
    target: Target = None,
    variates: Variates = None,
    known_future: KnownFuture = None,
    static: Static = None,
    id_col: IdCol = None,
    time_col: TimeCol = None,
    freq: Freq = None,
    resample: Resample = None,
    dates: Dates = None,
    decimal: DecimalMark = None,
    missing_codes: MissingCodes = None,
    strict: Strict = None,
    levels: Annotated[str, typer.Option(help="Prediction intervals in per cent.")] = "80,95",
    time_limit: Annotated[str | None, typer.Option(help="Stop training of each fit after e.g. 90s, 10m, 2h.")] = None,
    seed: Seed = None,
    precision: Precision = None,
    device: Device = None,
    experiment: Experiment = None,
    settings: Settings = None,
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="Table of the forecasts: .csv or .parquet.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Forecast from past cutoffs with what was known there, and score what came."""
    from .backtesting import backtest as run_backtest
    from .data import table

    given = _given(
        lookback=lookback, target=target, variates=variates, known_future=known_future, id_col=id_col,
        time_col=time_col, freq=freq, resample=resample, dates=dates, decimal=decimal, missing_codes=missing_codes,
        strict=strict, time_limit=_seconds(time_limit), seed=seed, precision=precision, device=device,
        experiment=experiment,
    )  # fmt: skip
    if output is not None:
        table.require_writable(output)
        if data is not None:
            _refuse_overwriting(data, output)
    found = run_backtest(
        data,
        model,
        windows=windows,
        step=step,
        refit=refit,
        horizon=horizon,
        levels=_levels(levels),
        static=static,
        config=config,
        settings=settings or (),
        progress=None if quiet or as_json else Progress(),
        **given,
    )
    if output is not None:
        table.write(found.table, output)
    if as_json:
        print_json({**found.document, "output": output})
    elif not quiet:
        echo(found.text())
        if output is not None:
            echo(f"written to {output}")


@app.command()
def compare(
    data: Annotated[str | None, typer.Argument(help="As for fit; several as etth1,etth2.")] = None,
    models: Annotated[
        str | None, typer.Option("--models", help="Models or configuration files, comma separated.")
    ] = None,
    horizon: Annotated[str | None, typer.Option(help="Steps to forecast, e.g. 96,192.")] = None,
    lookback: Annotated[str | None, typer.Option(help="Steps that the models see, e.g. 96,512.")] = None,
    seeds: Annotated[str | None, typer.Option(help="A fit for each, e.g. 1,2,3.")] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Use the papers' settings where there are some; show their scores.")
    ] = False,
    target: Target = None,
    variates: Variates = None,
    known_future: KnownFuture = None,
    static: Static = None,
    edges: Edges = None,
    id_col: IdCol = None,
    time_col: TimeCol = None,
    freq: Freq = None,
    resample: Resample = None,
    dates: Dates = None,
    decimal: DecimalMark = None,
    missing_codes: MissingCodes = None,
    strict: Strict = None,
    time_limit: Annotated[str | None, typer.Option(help="Stop training of each fit after e.g. 90s, 10m, 2h.")] = None,
    precision: Precision = None,
    device: Device = None,
    experiment: Experiment = None,
    settings: Settings = None,
    output: Annotated[
        str | None, typer.Option("-o", "--output", help="Table of all fits and baselines: .csv or .parquet.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Rank models beside the baselines; what is already done is not run again."""
    from .comparison import compare as run_compare
    from .data import table
    from .leaderboard import text

    given = _given(
        target=target, variates=variates, known_future=known_future, static=static, edges=edges,
        id_col=id_col, time_col=time_col,
        freq=freq, resample=resample, dates=dates, decimal=decimal, missing_codes=missing_codes, strict=strict,
        time_limit=_seconds(time_limit), precision=precision, device=device, experiment=experiment,
    )  # fmt: skip
    if output is not None:
        table.require_writable(output)
        if data is not None:
            _refuse_overwriting(data, output)
    comparison = run_compare(
        data,
        models or (),
        horizon=horizon,
        lookback=lookback,
        seeds=seeds,
        published=published,
        settings=settings or (),
        progress=None if quiet or as_json else Progress(),
        **given,
    )
    if output is not None:
        table.write(comparison.table, output)
    if as_json:
        print_json(comparison.document)
    elif not quiet:
        echo(text(comparison.document))
    if comparison.failures:
        error = comparison.failures[0]["error"]
        if quiet and not as_json:
            log(f"{error['message']}\n{error['hint']}")
        raise typer.Exit(error["code"])


@app.command()
def doctor(
    data: Data,
    fix: Annotated[str | None, typer.Option("--fix", help="Write the clean table: .csv or .parquet.")] = None,
    html: Annotated[str | None, typer.Option("--html", help="Write the page with plots: .html.")] = None,
    horizon: Horizon = None,
    lookback: Lookback = None,
    target: Target = None,
    variates: Variates = None,
    known_future: KnownFuture = None,
    static: Static = None,
    edges: Edges = None,
    id_col: IdCol = None,
    time_col: TimeCol = None,
    freq: Freq = None,
    resample: Resample = None,
    dates: Dates = None,
    decimal: DecimalMark = None,
    missing_codes: MissingCodes = None,
    kind: Kind = None,
    settings: Settings = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Read a file, explain it, list every repair, and say which fit to run."""
    from .data import table
    from .diagnosis import doctor as run_doctor

    given = _given(
        horizon=horizon, lookback=lookback, target=target, variates=variates, id_col=id_col, time_col=time_col,
        freq=freq, resample=resample, dates=dates, decimal=decimal, missing_codes=missing_codes,
        known_future=known_future, static=static, edges=edges, kind=kind,
    )  # fmt: skip
    if data is None:
        raise UsageError("No data were given.", "Name a file, or one of `forecast datasets`.")
    for output, suffix in ((fix, ()), (html, (".html",))):
        if output is not None:
            table.require_writable(output, *suffix)
            _refuse_overwriting(data, output)
    found = run_doctor(data, settings=settings or (), **given)
    rows = found.fix(fix) if fix is not None else 0
    if html is not None:
        found.save(html)
    if as_json:
        print_json(found.document)
    elif not quiet:
        echo(found.text(width()))
        if fix is not None:
            echo(f"\nclean table written to {fix}: {rows:,} rows")
        if html is not None:
            echo(f"page written to {html}")


@app.command()
def models(as_json: Json = False) -> None:
    """List the models."""
    from .registry import MODELS

    rows = [{"name": m.name, "task": m.task, "summary": m.summary, "paper": m.paper} for m in MODELS.values()]
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            echo(f"{row['name']:<16}{row['task']:<9}{row['summary']}")


@datasets_app.callback(invoke_without_command=True)
def datasets(context: typer.Context, as_json: Json = False) -> None:
    """List the catalogued data sets, or make one of graphs."""
    if context.invoked_subcommand is not None:
        return
    from .data import catalogue
    from .errors import DataError

    rows: list[dict[str, Any]] = []
    for card in catalogue.cards().values():
        try:
            found: str | None = str(catalogue.locate(card))
        except DataError:
            found = None
        rows.append({"name": card.name, "rows": card.rows, "freq": card.freq, "file": found, "title": card.title})
    if as_json:
        print_json(rows)
    else:
        for row in rows:
            here = "here" if row["file"] else "not here"
            echo(f"{row['name']:<14}{row['rows']:>8,} rows  {row['freq'] or '':<6}{here:<9} {row['title']}")
        echo("Files are looked for in the folder that FORECAST_DATA names.")


@datasets_app.command("make")
def datasets_make(
    name: Annotated[str, typer.Argument(help="pattern or cluster.")],
    output: Annotated[str, typer.Option("-o", "--output", help="Table of one graph a row: .parquet.")],
    graphs: Annotated[int, typer.Option(help="How many; published are 14,000 and 12,000.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the graphs.")] = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Make graphs whose nodes are to be told apart: PATTERN or CLUSTER of Dwivedi et al. 2020."""
    from .data import table
    from .data.made import made

    if name not in ("pattern", "cluster"):
        raise UsageError(f"{name!r} is no data set that can be made.", "Make pattern or cluster.")
    path = table.require_writable(output)
    if path.suffix.lower() == ".csv":
        raise UsageError(f"{output}: the lists of a graph do not fit into CSV.", f"Use {path.with_suffix('.parquet')}.")
    frame = made(name, graphs, seed)  # type: ignore[arg-type]
    table.write(frame, path)
    facts = {"rows": frame.height, "nodes": int(frame["num_nodes"].sum()), "output": output}
    if as_json:
        print_json({"name": name, "seed": seed, **facts})
    else:
        echo(f"{output}: {facts['rows']:,} graphs, {facts['nodes']:,} nodes; forecast fit {output} --model darts-gt")


@app.command()
def info(
    model: Annotated[str, typer.Argument(help="models:/NAME@champion, runs:/… or a model folder.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Describe a stored model."""
    from .bundle import describe
    from .prediction import locate

    described = describe(locate(model))
    if as_json:
        print_json(described)
        return
    show_model(described)


@config_app.command("show")
def config_show(
    config: ConfigFile = None,
    model: Model = None,
    settings: Settings = None,
    horizon: Horizon = None,
    as_json: Json = False,
) -> None:
    """Print the resolved configuration."""
    from .config import flags, resolve

    resolved = resolve(model, file=config, settings=settings or (), flags=flags(**_given(horizon=horizon)))
    if as_json:
        print_json(resolved.to_dict())
    else:
        echo(resolved.to_yaml().rstrip())


@config_app.command("schema")
def config_schema() -> None:
    """Print the JSON schema of a configuration file."""
    from .config import schema

    print_json(schema())


@app.command()
def ui(port: Annotated[int, typer.Option(help="Port on this machine.")] = 5000, debug: Debug = False) -> None:
    """Open MLflow's page on this store."""
    import subprocess

    from .tracking import open_store

    uri = open_store().tracking_uri
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ}
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--port", str(port)]
    raise typer.Exit(subprocess.run(command, env=environment).returncode)


def _sentence(version: Mapping[str, Any]) -> str:
    alias = f" as @{version['alias']}" if version["alias"] else ""
    return f"registered {version['name']} version {version['version']}{alias}: {version['reason']}"


def _given(**options: Any) -> dict[str, Any]:
    """Keep the options that were typed; the configuration itself splits names at commas."""
    found = {key: value for key, value in options.items() if value is not None}
    return {key: _levels(value) if key == "levels" else value for key, value in found.items()}


def _levels(text: str | None) -> tuple[int, ...]:
    try:
        return tuple(int(level) for level in text.split(",")) if text else ()
    except ValueError:
        raise UsageError(f"--levels {text}: not whole numbers.", "E.g. --levels 80,95.") from None


def _seconds(text: str | None) -> float | None:
    """Read `90`, `90s`, `10m` or `2h` as seconds."""
    if text is None:
        return None
    unit = {"s": 1, "m": 60, "h": 3600}.get(text[-1:])
    try:
        return float(text[:-1]) * unit if unit else float(text)
    except ValueError:
        raise UsageError(f"--time-limit {text}: not a time.", "E.g. --time-limit 10m.") from None


def _refuse_overwriting(data: str, output: str) -> None:
    if os.path.exists(data) and os.path.exists(output) and os.path.samefile(data, output):
        raise UsageError(f"{output} is the data; the output would replace it.", "Choose another file for -o.")


def _existing(data: str | None) -> Any:
    """Take the name of a catalogued set for its file; nothing stays nothing."""
    if data is None or data == "-" or os.path.exists(data):
        return data
    from .data import catalogue

    return catalogue.read(catalogue.card(data.lower())) if data.lower() in catalogue.cards() else data


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; give the exit code."""
    if arguments is None:  # called as a program: a terminal without bars or dashes shows question marks
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        command = typer.main.get_command(app)
        result = command.main(arguments, prog_name="forecast", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        hints = {"compare": "The same command goes on from here.", "backtest": "The same command begins anew."}
        hint = hints.get("".join(arguments[:1]), "A fit goes on with forecast fit --resume RUN.")
        return _fail(arguments, 130, "Interrupted.", hint)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if hasattr(error, "format_message"):  # the parser's own; typer may bring its own copy of click
            return _fail(arguments, 2, *_usage(error))
        from .errors import own

        if "--debug" in arguments:
            import traceback

            traceback.print_exc()
        known = own(error)
        if isinstance(known, ForecastError):
            return _fail(arguments, known.exit_code, known.message, known.hint)
        name = type(error).__name__
        return _fail(arguments, 1, f"{name}: {error}", "This is a bug; --debug shows where.")


def _usage(error: Any) -> tuple[str, str]:
    """Put click's usage errors into a message and a hint."""
    import difflib

    context: Any = getattr(error, "ctx", None)
    path = context.command_path if context else "forecast"
    hint = f"See {path} --help."
    if hasattr(error, "option_name") and "No such option" in error.format_message():
        known = [option for param in context.command.params for option in param.opts] if context else []
        near = difflib.get_close_matches(error.option_name, known, n=1)
        return (
            f"{path}: there is no option {error.option_name}.",
            f"Did you mean {near[0]}?" if near else hint,
        )
    if hasattr(getattr(context, "command", None), "commands"):
        word = error.message.partition("'")[2].partition("'")[0]
        near = difflib.get_close_matches(word, context.command.commands, n=1)
        if near:
            return f"{path}: there is no command {word}.", f"Did you mean {path} {near[0]}?"
    return f"{path}: {' '.join(error.format_message().split())}", hint


def _fail(arguments: Sequence[str], code: int, message: str, hint: str) -> int:
    """Say what is wrong in two lines, or as a document with --json."""
    if "--json" in arguments:
        print_json({"code": code, "message": message, "hint": hint})
    else:
        log("\n".join(" ".join(line.split()) for line in (message, hint) if line))
    return code


def run() -> NoReturn:
    """The console script."""
    raise SystemExit(main())
