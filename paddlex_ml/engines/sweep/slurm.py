# SPDX-License-Identifier: Apache-2.0
"""A sweep as an array job of Slurm: one task for each run, in one script. Nothing is started.

A task trains with the command that --dry-run shows. All of them have Train.resume_path=auto, so a
task that is put back into the queue goes on from its last checkpoint. Two minutes before the time
of a task ends, Slurm sends SIGUSR1: the training saves its state, and the script asks for the rest.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from paddlex_ml import program
from paddlex_ml.artifacts.sweep_folder import SweepFolder
from paddlex_ml.engines.sweep import run
from paddlex_ml.engines.sweep.grid import SweepRequest
from paddlex_ml.engines.sweep.run import SweepCommand
from paddlex_ml.errors import PaddlexMLError
from paddlex_ml.storage import files

_SCRIPT = """\
#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --array={array}
#SBATCH --output={log}
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
# One run of a sweep for each task of the array; the commands are those of --dry-run.
# Time, memory and GPUs belong to sbatch: sbatch --time=4:00:00 --gres=gpu:1 FILE

cd -- {folder} || exit 1

train() {{
    case "$SLURM_ARRAY_TASK_ID" in
{tasks}
    *) echo "this script has no run $SLURM_ARRAY_TASK_ID" >&2; exit 2 ;;
    esac
}}

# A signal to this script goes on to the training, which saves its state and ends.
train &
training=$!
trap 'kill -USR1 "$training"' USR1
trap 'kill -TERM "$training"' TERM INT
while true; do
    wait "$training"
    code=$?
    kill -0 "$training" 2> /dev/null || break
done
# The time of the task is over: the rest of the training waits in the queue again.
if [ "$code" -eq $((128 + $(kill -l USR1))) ]; then
    if [ "$SECONDS" -ge 60 ]; then
        scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
    else
        echo "the time of the task is too short: sbatch --time=MORE" >&2
    fi
fi
exit "$code"
"""


def emit(command: SweepCommand, request: SweepRequest, *, output: Path, most: int) -> list[str]:
    """Write the script and what its tasks need; returns lines for the terminal.

    Raises PaddlexMLError where a combination is refused, where the folder has runs of other options
    or lists, for a search, whose combinations are not known before, and for paths that Slurm cannot
    read.
    """
    if request.search is not None:
        raise PaddlexMLError(
            "a search chooses its combinations while it runs: there are no tasks to write",
            where="--emit",
            fix="leave out --emit, and start the search itself in several tasks with one --storage "
            f"({program.page('cluster.md')})",
        )
    planned = run.plan(command, request, output, most)
    runs = planned.runs
    lists = run.digest_lists(planned.configs, has_folds=request.folds is not None)
    script = write_script(
        run.list_commands(command, runs, output), SweepFolder(output), request.jobs
    )
    with run.writing(output):
        run.find_done(planned, lists, output)  # refuses runs of other options or lists
        folder = run.prepare(command, request, runs, output)
        files.make_folder(folder.logs)  # Slurm does not make it
        files.write_text(folder.slurm, script)
    tool = f"{program.python()} -m paddlex_ml.tools.runs {shlex.quote(str(output))}"
    after = "the same command without --emit" if request.folds is not None else tool
    return [
        f"script: {folder.slurm}",
        f"submit: sbatch {shlex.quote(str(folder.slurm))}",
        f"table, when all tasks have ended: {after}",
    ]


def write_script(commands: Sequence[str], folder: SweepFolder, jobs: int | None) -> str:
    """The script. commands: those of the runs, as lines of a shell. jobs: tasks at a time; None: as
    many as there is room for. Raises PaddlexMLError for a path that Slurm cannot read.
    """
    log = os.path.abspath(folder.logs / "slurm")
    if re.search(r"[\n\\\"]", log):
        raise PaddlexMLError(
            "Slurm reads no path with a quotation mark, a backslash or a line end",
            where=str(folder.output),
            fix="choose another folder: -o Global.output=FOLDER",
        )
    name = re.sub(r"[^\w.-]+", "_", folder.output.absolute().name)
    return _SCRIPT.format(
        name=f"sweep_{name}",
        array=f"0-{len(commands) - 1}" + ("" if jobs is None else f"%{jobs}"),
        log=f'"{log.replace("%", "%%")}-%A_%a.txt"',
        folder=shlex.quote(os.getcwd()),
        tasks="\n".join(f"    {n}) exec {line} ;;" for n, line in enumerate(commands)),
    )
