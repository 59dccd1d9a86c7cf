"""The command line, `python -m olmo`: the four steps by hand, as MLC's users know them.

Results go to stdout, everything else to stderr. A mistake ends in `error: …`, often `hint: …`, and
exit code 1; wrong usage in exit code 2. tvm is imported only by the commands that need it.
"""

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from olmo.checkpoints.checkpoint_files import FORMATS, GGUF_SUFFIX, describe
from olmo.checkpoints.model_config import read_gguf_tokenizer, read_model_config
from olmo.compilation.library_plan import plan_library
from olmo.configuration.compile_spec import MODEL_TYPES
from olmo.errors import OlmoError, unknown
from olmo.generation.console import converse, library_of
from olmo.json_file import read_json
from olmo.quantization import ENCODINGS, SHORTENED
from olmo.quantizations import quantization
from olmo.targets import TARGETS
from olmo.weights import weights

# How MLC's tools are told that weights are divided when they are converted.
PRESHARD_VARIABLE = "MLC_INTERNAL_PRESHARD_NUM"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code. Usage errors raise SystemExit(2), as argparse does."""
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        code = command(arguments)
        sys.stdout.flush()
    except OlmoError as error:
        sys.stderr.write(f"error: {error}\n")
        if error.hint is not None:
            sys.stderr.write(f"hint: {error.hint}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m olmo", description="Build and run MLC artifacts of OLMo models."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_convert_weight(commands.add_parser("convert_weight", help="quantize a checkpoint"))
    _add_gen_config(commands.add_parser("gen_config", help="write mlc-chat-config.json"))
    _add_compile(commands.add_parser("compile", help="build the library of a model"))
    _add_chat(commands.add_parser("chat", help="talk to a model"))
    return parser


def _path(text: str) -> Path:
    """Return the path; none that an empty variable of a script has become."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def _add_convert_weight(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("config", metavar="CONFIG", type=_path, help="config.json, its directory, or a GGUF file")
    add("--quantization", required=True, metavar="Q", help="such as q4f16_1")
    add("--model-type", default="auto", metavar="TYPE", help="auto or olmo")
    add("--device", default="auto", help="auto or cpu")
    add("--source", default="auto", help="checkpoint directory or file (default: beside CONFIG)")
    add("--source-format", default="auto", metavar="FORMAT", help=" or ".join(FORMATS))
    add("--encoding", default=SHORTENED, help=f"of float32: {' or '.join(ENCODINGS)} (exact)")
    add(
        "--preshard",
        type=int,
        metavar="N",
        help=f"divide the weights for N devices now (default: {PRESHARD_VARIABLE}, else not)",
    )
    add("-o", "--output", required=True, metavar="OUT", type=_path, help="directory to write")
    parser.set_defaults(command=_convert_weight)


def _add_gen_config(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("config", metavar="CONFIG", type=_path, help="config.json, its directory, or a GGUF file")
    add("--quantization", required=True, metavar="Q", help="such as q4f16_1")
    add("--conv-template", required=True, metavar="T", help="a name, or a .json file of your own")
    add("--model-type", default="auto", metavar="TYPE", help="auto or olmo")
    for name in ("context-window-size", "prefill-chunk-size"):
        add(f"--{name}", type=int, metavar="TOKENS")
    for name in ("sliding-window-size", "attention-sink-size"):
        add(f"--{name}", type=int, default=-1, metavar="TOKENS")
    for name in ("tensor-parallel-shards", "pipeline-parallel-stages", "max-batch-size"):
        add(f"--{name}", type=int, metavar="N")
    add("-o", "--output", required=True, metavar="OUT", type=_path, help="directory to write")
    parser.set_defaults(command=_gen_config)


def _add_compile(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", type=_path, help="mlc-chat-config.json or the directory it is in")
    add("--quantization", metavar="Q", help="default: the one in mlc-chat-config.json")
    add("--model-type", default="auto", metavar="TYPE", help="auto or olmo")
    add("--device", default="auto", metavar="TARGET", help=f"auto or {', '.join(TARGETS)}")
    add("--host", default="auto", metavar="TRIPLE", help="auto, or the target's own triple")
    add("--opt", default="O2", metavar="LEVEL", help="O0 to O3, and flags: O2;cudagraph=0")
    add("--system-lib-prefix", default="auto", metavar="PREFIX", help="for static libraries")
    add("--overrides", default="", metavar="K=V;…", help="such as context_window_size=512")
    add("-o", "--output", required=True, metavar="OUT", type=_path, help="library to write")
    parser.set_defaults(command=_compile)


def _add_chat(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("directory", metavar="DIR", type=_path, help="converted model with mlc-chat-config.json")
    add("--model-lib", metavar="LIB", type=_path, help="default: from libs/ beside DIR")
    add("--prompt", metavar="TEXT", help="answer this and end")
    for name in ("temperature", "top-p", "repetition-penalty"):
        add(f"--{name}", type=float, metavar="X", help="default: from mlc-chat-config.json")
    add("--seed", type=int, default=0, metavar="N", help="of the sampling")
    add("--max-tokens", type=int, metavar="N", help="longest answer")
    parser.set_defaults(command=_chat)


def _convert_weight(arguments: argparse.Namespace) -> int:
    from olmo.codecs.kernel_cache import kernels_for  # noqa: PLC0415  beside it
    from olmo.conversion.convert import convert  # noqa: PLC0415  --help and other commands need no numpy

    quantized = quantization(arguments.quantization)
    encoding = quantized.encoding(arguments.encoding)
    shards = _shards(arguments.preshard)
    _check_model_type(arguments.model_type)
    _check_conversion_device(arguments.device)
    given: Path = arguments.config
    source = _source(given) if arguments.source == "auto" else Path(arguments.source)
    config = read_model_config(given, source, arguments.source_format).parse()
    found = describe(source, arguments.source_format)
    size = sum(math.prod(weight.shape) for weight in weights(config))
    with (
        kernels_for(size, _cache_directory() / "kernels") as kernels,
        _progress(f"converting {source} ({found}) to {quantized.name}") as show,
    ):
        report = convert(
            source,
            config,
            quantized,
            arguments.output,
            show,
            source_format=arguments.source_format,
            encoding=encoding,
            shards=shards,
            kernels=kernels,
        )
    worst = max(report.weights, key=lambda weight: weight.max_error)
    sys.stdout.write(
        f"size after quantization: {report.bytes / 1e9:.3f} GB ({report.bytes:,} bytes)\n"
        f"parameters: {report.parameters:,}\n"
        f"bits per parameter: {report.bits_per_parameter:.3f}\n"
        f"largest error: {worst.max_error:.3g} in {worst.name}\n"
    )
    return 0


def _gen_config(arguments: argparse.Namespace) -> int:
    from olmo.configuration import chat_config  # noqa: PLC0415  imports tokenizers
    from olmo.configuration.compile_spec import CompileSpec  # noqa: PLC0415  beside it

    quantized = quantization(arguments.quantization)
    _check_model_type(arguments.model_type)
    config = read_model_config(arguments.config)
    config.parse()  # whose errors name the file
    directory = _directory(arguments.config)
    generation = directory / "generation_config.json"
    given: str = arguments.conv_template
    template = read_json(Path(given)) if given.endswith(".json") else given
    if not isinstance(template, str | dict):
        raise OlmoError(f"{given}: expected a table of template keys")
    made = chat_config.generate(
        config.fields,
        read_json(generation) if generation.exists() else None,
        directory,
        quantized.name,
        template,
        gguf_tokenizer=read_gguf_tokenizer(arguments.config),
        context_window_size=arguments.context_window_size,
        prefill_chunk_size=arguments.prefill_chunk_size,
        sliding_window_size=arguments.sliding_window_size,
        attention_sink_size=arguments.attention_sink_size,
        tensor_parallel_shards=arguments.tensor_parallel_shards,
        pipeline_parallel_stages=arguments.pipeline_parallel_stages,
        max_batch_size=arguments.max_batch_size,
    )
    spec = CompileSpec.from_chat_config(made.chat_config, quantized)
    others = {"compile-spec.json": spec.to_json()}
    chat_config.write(made, directory, arguments.output, others)
    for warning in made.warnings:
        sys.stderr.write(f"warning: {warning}\n")
    sys.stdout.write(f"{arguments.output / chat_config.CHAT_CONFIG}\n")
    return 0


def _compile(arguments: argparse.Namespace) -> int:
    _check_model_type(arguments.model_type)
    plan = plan_library(
        arguments.model,
        arguments.output,
        quantization_name=arguments.quantization,
        device=arguments.device,
        host=arguments.host,
        opt=arguments.opt,
        system_lib_prefix=arguments.system_lib_prefix,
        overrides=arguments.overrides,
    )
    from olmo.compilation.build_library import build_library  # noqa: PLC0415  imports tvm

    sys.stderr.write(f"compiling {arguments.model} for {plan.target.name}\n")
    build_library(plan, _cache_directory() / "wasm-runtime")
    sys.stderr.write(f"compiled, {plan.output.stat().st_size / 1e6:.1f} MB\n")
    sys.stdout.write(f"{plan.output}\n")
    return 0


def _chat(arguments: argparse.Namespace) -> int:
    library = arguments.model_lib or library_of(arguments.directory)
    sampling: dict[str, Any] = {
        name: value
        for name in ("temperature", "top_p", "repetition_penalty", "max_tokens")
        if (value := getattr(arguments, name)) is not None
    }
    return converse(arguments.directory, library, arguments.prompt, seed=arguments.seed, **sampling)


def _shards(given: int | None) -> int:
    """Return for how many devices weights are to be divided: the option, or what MLC's users set."""
    text = os.environ.get(PRESHARD_VARIABLE)
    if given is None and text:
        if not text.isdecimal():
            raise OlmoError(f"{PRESHARD_VARIABLE}: expected a number of devices, found {text!r}")
        given = int(text)
    if given is not None and given < 1:
        raise OlmoError(
            f"weights cannot be divided for {given} devices", "use --preshard 2 or more"
        )
    return given or 1


def _check_conversion_device(device: str) -> None:
    if device in {"auto", "cpu"}:
        return
    hint = "leave --device out; the result is the same for every device"
    if re.fullmatch(r"cuda(:\d+)?", device) is None:
        raise OlmoError(f"--device {device!r}: weights are converted on the CPU", hint)
    if not Path("/dev/nvidiactl").exists():
        raise OlmoError(f"--device {device!r}: this machine has no CUDA device", hint)
    raise OlmoError(f"--device {device!r}: there are no conversion kernels for GPUs", hint)


def _cache_directory() -> Path:
    """Return where this user's caches of Olmill are."""
    chosen = os.environ.get("OLMILL_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "olmill"


def _check_model_type(name: str) -> None:
    if name not in {"auto", *MODEL_TYPES}:
        raise unknown("model type", name, ("auto", *MODEL_TYPES))


def _source(given: Path) -> Path:
    """Return the checkpoint that CONFIG alone means: a GGUF file, or what is beside config.json."""
    return given if given.suffix == GGUF_SUFFIX and given.is_file() else _directory(given)


def _directory(given: Path) -> Path:
    """Return the directory that CONFIG is or lies in."""
    return given if given.is_dir() else given.parent


@contextmanager
def _progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows progress on stderr: one line redrawn on a terminal, else two."""
    live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    shown = -1

    def show(done: int, total: int) -> None:
        nonlocal shown
        percent = done * 100 // total
        if live and percent != shown:
            sys.stderr.write(f"\r{title}: {percent} %")
            sys.stderr.flush()
        shown = percent

    if not live:
        sys.stderr.write(f"{title}\n")
    try:
        yield show
    finally:
        if live:
            sys.stderr.write("\n")
    if not live:
        sys.stderr.write(f"{title}: done\n")
