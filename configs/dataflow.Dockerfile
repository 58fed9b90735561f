# Workers of Dataflow with everything installed, in place of --setup_file:
#   docker build -f configs/dataflow.Dockerfile -t REGION-docker.pkg.dev/PROJECT/REPO/ncf .
#   docker push REGION-docker.pkg.dev/PROJECT/REPO/ncf
# then --sdk_container_image=REGION-docker.pkg.dev/PROJECT/REPO/ncf
# --sdk_location=container. Python and Beam are the launcher's versions.
FROM apache/beam_python3.11_sdk:2.77.0
COPY setup.py pyproject.toml README.md constraints.txt /src/
COPY beam_pipelines /src/beam_pipelines
COPY ncf_tfdata /src/ncf_tfdata
RUN pip install --no-cache-dir --constraint /src/constraints.txt /src && rm -rf /src
ENTRYPOINT ["/opt/apache/beam/boot"]
