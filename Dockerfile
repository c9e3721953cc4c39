# syntax=docker/dockerfile:1
# Built in two stages: the second holds Python, the runtime packages with checked hashes, and the wheel; no compiler, no pip cache.

FROM python:3.13-slim-bookworm AS build
RUN pip install --no-cache-dir --disable-pip-version-check 'uv==0.13.9'
WORKDIR /src
COPY pyproject.toml requirements.lock README.md LICENSE ./
RUN uv venv /opt/dispatcher
# Every package must be in the lock, and have one of its hashes. First, since they change less often than our code.
RUN uv pip install --python /opt/dispatcher --no-cache --require-hashes --constraint requirements.lock \
  --requirements pyproject.toml --extra postgres --extra xlsx
COPY dispatcher dispatcher
COPY tasks tasks
COPY templates templates
RUN uv build --wheel --no-cache --require-hashes --build-constraint requirements.lock --out-dir dist
RUN uv pip install --python /opt/dispatcher --no-cache --no-deps --compile-bytecode dist/*.whl

FROM python:3.13-slim-bookworm
# The user's folder is made here with its owner, so that a new volume mounted there gets the same.
RUN useradd --system --uid 10001 --home-dir /var/lib/dispatcher --shell /usr/sbin/nologin dispatcher \
  && install --directory --owner=dispatcher --group=dispatcher --mode=0700 /var/lib/dispatcher
COPY --from=build /opt/dispatcher /opt/dispatcher
ENV PATH=/opt/dispatcher/bin:$PATH \
  PYTHONUNBUFFERED=1 \
  PYTHONDONTWRITEBYTECODE=1 \
  PYTHONSAFEPATH=1 \
  MALLOC_ARENA_MAX=1 \
  DISPATCHER_DATA_DIR=/var/lib/dispatcher
USER dispatcher
WORKDIR /var/lib/dispatcher
# The health of a container depends on what it runs: docker-compose.yml has a check for each service.
ENTRYPOINT ["dispatcher"]
CMD ["--help"]
