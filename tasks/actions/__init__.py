"""What each kind of node does: a module with `run(params, inputs, outputs)`.

An action reads only files below `inputs` and writes only below `outputs` (an empty directory);
it prints nothing, and knows neither doit nor the store. It returns warnings for the user, or
None. `TOOLS` names distributions it uses without importing them; `SERIAL` says that it may not run
in two threads of one process. Its key is the import closure of its module: import statically, and
only what it needs.

With `PROGRESS`, `run` takes a function `progress(done, total)` to call now and then, from one
thread at a time, with bytes. An action of `batch` nodes also has `run_batch(jobs, inputs)`, which
does the same for several `(params, outputs)` with one reading of the inputs.
"""
