# Two stages: the first installs into a virtual environment, the second is what runs.
FROM python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/audit-etl
COPY requirements/runtime.txt requirements/runtime.txt
RUN /opt/audit-etl/bin/pip install --require-hashes -r requirements/runtime.txt
COPY pyproject.toml README.md ./
COPY etl etl
COPY migrations migrations
COPY config config
RUN /opt/audit-etl/bin/pip install --no-deps --no-build-isolation .

FROM python:3.13-slim@sha256:7c61056e61ac89e852de05f3dc6fa51a6dd2181797bceed46aa725dd7cb2cd3b
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/audit-etl audit-etl
COPY --from=build /opt/audit-etl /opt/audit-etl
ENV PATH=/opt/audit-etl/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001
WORKDIR /var/lib/audit-etl
VOLUME /var/lib/audit-etl
STOPSIGNAL SIGTERM
# Of no use to commands that serve no health address, and no harm.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "from urllib.request import *; build_opener(ProxyHandler({})).open('http://127.0.0.1:9464/healthz', timeout=4)"]
ENTRYPOINT ["audit-etl"]
CMD ["daemon"]
