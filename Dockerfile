# One image for the operator, every stage and the tools: the command chooses.
#   docker build -t eod:dev .        docker run --rm eod:dev stage list
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
COPY pyproject.toml uv.lock README.md LICENSE ./
COPY tools/bootstrap.sh tools/bootstrap.sh
COPY operator operator
COPY workers workers
# Hash-locked wheels, then our own; only what runs, no development group.
RUN EOD_CACHE=/cache EOD_VENV=/venv EOD_RUNTIME=1 tools/bootstrap.sh \
 && find /venv -name __pycache__ -prune -exec rm -rf {} +

FROM ${BASE}
LABEL org.opencontainers.image.title="eod" \
      org.opencontainers.image.description="The market close, end to end" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
ENTRYPOINT ["eod"]
CMD ["--help"]
