# The CUDA server: docker build -t steper-serve .
#   docker run --gpus all -p 8000:8000 --stop-timeout 40 -v /data/keys.txt:/keys.txt:ro \
#     -e STEPER_API_KEYS_FILE=/keys.txt steper-serve
# It listens on every address of the container, and so does not start without a key
# (`docker run --rm steper-serve key NAME >> /data/keys.txt` makes one). To do without, publish the port to this
# machine alone (-p 127.0.0.1:8000:8000) and add -e STEPER_ALLOW_UNAUTHENTICATED=true.
# The stop timeout leaves running answers the time that STEPER_DRAIN_SECONDS gives them.
# The image holds the bundled student and corpus, and not the recipe (`steper-serve distill`). For a model and an index of your own:
#   -v /data/model:/model:ro -v /data/index:/index:ro -e STEPER_MODEL=/model -e STEPER_INDEX=/index

ARG PYTHON=3.11

# --- build: a virtual environment with everything in it --------------------------------------
FROM python:${PYTHON}-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/steper
ENV PATH=/opt/steper/bin:$PATH
WORKDIR /src
# The heavy, slowly changing part first, so that a change of our code does not install it anew.
COPY requirements/cuda.lock requirements/cuda.lock
RUN pip install --requirement requirements/cuda.lock
COPY pyproject.toml README.md LICENSE ./
COPY steper_serve steper_serve
COPY benchmarks benchmarks
COPY ui ui
RUN pip install --no-deps .

# --- run: no compiler but the one that Triton needs, no root ---------------------------------
FROM python:${PYTHON}-slim-bookworm
# vLLM compiles at start (Triton's launcher, torch.compile) and needs a compiler for it.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 steper
COPY --from=build /opt/steper /opt/steper
USER steper
WORKDIR /home/steper
# The driver's libraries come from the host through the NVIDIA container runtime.
ENV PATH=/opt/steper/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    STEPER_CACHE_DIR=/home/steper/.cache/steper-serve \
    STEPER_HOST=0.0.0.0 \
    STEPER_PORT=8000
# Inside, so that the first start need not: index the bundled corpus, where `serve` looks for it.
# STEPER_INDEX stays free: with it, the page takes the corpus for another and shows none of its questions.
RUN python -c "from steper_serve.cli.wiring import index_directory; from steper_serve.settings import Settings; index_directory(Settings())"
EXPOSE 8000
# Loading a model takes minutes; after that, not ready for a minute and a half is unhealthy.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10m --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen(f'http://127.0.0.1:{__import__(\"os\").environ[\"STEPER_PORT\"]}/ready', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["steper-serve"]
CMD ["serve"]
