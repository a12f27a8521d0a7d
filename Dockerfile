# One image for the operator, every stage, the jobs and the tools: the command chooses.
#   make image                       docker run --rm eod:dev stage list
# BUILD needs Python with venv and a shell, and for the kernel (hatch_build.py) a C compiler and Python.h: without those the image
# is built all the same, and slower at its work. BASE needs Python at PYTHON, and nothing else: no shell, no package manager.
ARG BUILD=python:3.11-bookworm
ARG BASE=gcr.io/distroless/python3-debian12:nonroot

FROM ${BUILD} AS build
ARG PYTHON=/usr/bin/python3.11
WORKDIR /src
COPY pyproject.toml hatch_build.py uv.lock README.md LICENSE ./
COPY tools/bootstrap.sh tools/elf.py tools/slim.py tools/
# The locked wheels, where 'make image' has put them; what is not there is fetched, and each is checked against the lock.
COPY LICENSE build/wheels* /cache/wheels/
COPY contract contract
COPY operator operator
COPY workers workers
# "operator" is all there is; "" makes an image of the workers alone.
ARG EXTRAS=operator
RUN EOD_CACHE=/cache EOD_VENV=/venv EOD_RUNTIME=1 EOD_EXTRAS="${EXTRAS}" tools/bootstrap.sh \
 && /venv/bin/python tools/slim.py /venv --python "${PYTHON}"

FROM ${BASE} AS image
COPY --from=build /venv /venv
# A container has addresses of its own; outside one, stages listen on loopback.
ENV EOD_HTTP_HOST=0.0.0.0 EOD_FIX_HOST=0.0.0.0
ENV PATH=/venv/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
ENTRYPOINT ["/venv/bin/eod"]
CMD ["--help"]
# Last, so that images that differ in their labels alone share every layer.
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="eod" \
      org.opencontainers.image.description="The market close, end to end" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      markets.eod.sbom="/venv/share/eod/sbom.cdx.json"

# To develop in: sources instead of compiled code, a shell and tar, so that changed files can be copied into running pods.
FROM ${BUILD} AS dev
COPY pyproject.toml hatch_build.py uv.lock README.md LICENSE /src/
COPY tools/bootstrap.sh /src/tools/
COPY LICENSE build/wheels* /cache/wheels/
COPY contract /src/contract
COPY operator /src/operator
COPY workers /src/workers
RUN cd /src && EOD_CACHE=/cache EOD_VENV=/venv EOD_RUNTIME=1 tools/bootstrap.sh && rm -rf /cache
ENV EOD_HTTP_HOST=0.0.0.0 EOD_FIX_HOST=0.0.0.0
ENV PATH=/venv/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["/venv/bin/eod"]
CMD ["--help"]
