// One process a step: check the job, run it, export embeddings. glmeval keeps its own progress in the store, which
// lies outside the work folder, so a task that is retried goes on where it was.
//
//   nextflow run examples/workflows/main.nf --job examples/quickstart.toml --store /scratch/me/store
//
// Needs `glmeval` on the PATH. Paths in the job file start at the job file, so it is passed by its absolute name.

params.job = 'examples/quickstart.toml'
params.store = 'glmeval-store'
params.layer = 4
params.pooling = 'mean'
params.out = 'results'

process PLAN {
    publishDir params.out, mode: 'copy'

    input:
    val job

    output:
    path 'plan.json'

    script:
    """
    glmeval plan '${job}' --format json > plan.json
    """
}

process RUN {
    publishDir params.out, mode: 'copy'
    errorStrategy 'retry'
    maxRetries 3

    input:
    tuple val(job), val(store)
    path plan

    output:
    path 'report', emit: report
    val store, emit: store

    script:
    """
    glmeval run '${job}' --store '${store}' --report report
    """
}

process EXPORT {
    publishDir params.out, mode: 'copy'

    input:
    val store

    output:
    path 'embeddings.h5ad'

    script:
    """
    glmeval export '${store}' --layer ${params.layer} --pool ${params.pooling} --format h5ad --out embeddings.h5ad
    """
}

workflow {
    job = file(params.job, checkIfExists: true).toAbsolutePath().toString()
    store = params.store.contains('://') ? params.store : file(params.store).toAbsolutePath().toString()
    PLAN(job)
    RUN([job, store], PLAN.out)
    EXPORT(RUN.out.store)
}
