# chatnest serve in a container: docs/how-to/containers.md explains each line.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir '.[metrics,redis,serve]'

FROM python:3.13-slim
COPY --from=build /venv /venv
RUN useradd --create-home --uid 10001 chat && install -d -o chat /data
ENV PATH="/venv/bin:$PATH" PYTHONUNBUFFERED=1
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://localhost:8000/healthz', timeout=2)"]
CMD ["chatnest", "serve", "--host", "0.0.0.0"]
